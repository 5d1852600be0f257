//! *Who*: identities, node keys, digests, signatures, keystore.
