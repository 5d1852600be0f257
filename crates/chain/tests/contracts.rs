//! The contracts under use and under attack: one suite, run on the embedded chain and on anvil, so that the first is proven
//! faithful by the second. It refuses to look inside the contracts: everything goes through transactions and views.
#![allow(clippy::unwrap_used)]

#[path = "contracts/arena.rs"]
mod arena;
#[path = "contracts/attacks.rs"]
mod attacks;
#[path = "contracts/channels.rs"]
mod channels;
#[path = "contracts/crowds.rs"]
mod crowds;
#[path = "contracts/exits.rs"]
mod exits;
#[path = "contracts/fuzz.rs"]
mod fuzz;
#[path = "contracts/gas.rs"]
mod gas;
#[path = "contracts/hermes.rs"]
mod hermes;
#[path = "contracts/journey.rs"]
mod journey;
#[path = "contracts/model.rs"]
mod model;
#[path = "contracts/net.rs"]
mod net;
#[path = "contracts/relay.rs"]
mod relay;

#[path = "contracts/rules.rs"]
mod rules;
#[path = "contracts/short.rs"]
mod short;

macro_rules! on_both_chains {
    ($($story:ident :: $case:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $case() {
                crate::$story::$case(&crate::net::Net::embedded().await).await;
            })*
        }
        mod anvil {
            $(#[tokio::test]
            async fn $case() {
                if let Some(net) = crate::net::Net::anvil().await {
                    crate::$story::$case(&net).await;
                }
            })*
        }
    };
}

on_both_chains! {
    journey::a_deposit_pays_a_provider,
    journey::derived_addresses_and_digests_are_the_contracts_own,
    journey::promises_in_any_order_settle_to_the_largest,
    journey::a_deposit_address_works_again_and_refuses_everything_else,
    journey::credit_stays_in_the_vault_until_it_is_withdrawn,
    attacks::a_third_party_cannot_settle_for_a_payee,
    attacks::settlements_cannot_be_replayed,
    attacks::bent_promises_of_a_hermes_are_refused,
    attacks::bent_promises_of_a_consumer_are_refused,
    attacks::a_consumers_promise_with_a_fee_is_refused,
    attacks::unknown_hermes_and_zero_addresses_are_refused,
    exits::hermes_collects_while_a_consumer_leaves,
    exits::an_exit_needs_its_delay_and_its_owner,
    exits::an_exit_by_signature_cannot_be_repeated,
    exits::an_exit_can_be_taken_back,
    hermes::collateral_leaves_only_with_notice_and_within_its_window,
    hermes::collateral_under_notice_still_pays,
    hermes::an_insolvent_hermes_pays_what_it_has_and_the_rest_later,
    hermes::a_hermes_takes_its_earnings_only_with_notice,
    hermes::operator_keys_rotate_with_a_delay,
    hermes::registration_is_once_and_its_fee_bounded,
    relay::a_relayer_earns_the_consented_fee_once,
    relay::a_relayed_settlement_with_a_fee_is_whole_or_nothing,
    relay::consents_name_caller_beneficiary_amount_and_deadline,
    crowds::a_batch_collects_and_settles_for_many,
    crowds::an_operator_books_credit_by_its_own_transaction,
    crowds::ones_own_settlement_goes_the_short_way,
    crowds::a_relayer_draws_for_a_provider_and_earns_its_fee,
    model::money_is_conserved_over_random_operations,
}
