//! The table of subcommands. It refuses to do any work itself: every row points at a module.

use crate::cli::{Command, Flag};
use crate::{bench, ci, crash, demo, doctor, fuzz, lab, natlab, soak, test, tidy, vectors};

const JSON: Flag = Flag {
    name: "--json",
    value: Some("FILE"),
    help: "write the report to FILE",
};

const PROGRAMS: Flag = Flag {
    name: "--programs",
    value: Some("DIR"),
    help: "use the programs in DIR instead of building them",
};

const KEEP: Flag = Flag {
    name: "--keep",
    value: None,
    help: "keep the logs and state folders",
};

/// One row per subcommand, in the order in which `help` tells them.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "demo",
        summary: "show the whole network at work, with every figure checked",
        rest: None,
        flags: &[
            Flag {
                name: "--mib",
                value: Some("N"),
                help: "size of the file that is fetched, in MiB (256; with a relay 64)",
            },
            Flag {
                name: "--scenario",
                value: Some("NAME"),
                help: "whole: all of it (the default); relay: through a relay that is paid",
            },
            PROGRAMS,
            KEEP,
            JSON,
        ],
        run: demo::run,
    },
    Command {
        name: "crash",
        summary: "kill -9 the programs under traffic, again and again, and count the money",
        rest: None,
        flags: &[
            Flag {
                name: "--rounds",
                value: Some("N"),
                help: "how many kills (50)",
            },
            Flag {
                name: "--seed",
                value: Some("N"),
                help: "repeat the kills of an earlier run",
            },
            PROGRAMS,
            KEEP,
            JSON,
        ],
        run: crash::run,
    },
    Command {
        name: "soak",
        summary: "our plain peer under steady traffic against those of others, across rekeys",
        rest: None,
        flags: &[
            Flag {
                name: "--minutes",
                value: Some("N"),
                help: "how long there is traffic (30)",
            },
            Flag {
                name: "--peers",
                value: Some("LIST"),
                help: "only these: wireguard-go,boringtun,gotatun",
            },
            Flag {
                name: "--first",
                value: Some("WHO"),
                help: "who begins all handshakes: ours or theirs (in turn along the list)",
            },
            Flag {
                name: "--without-ours",
                value: None,
                help: "put the peer at both ends: what it loses by itself",
            },
            PROGRAMS,
            KEEP,
            JSON,
        ],
        run: soak::run,
    },
    Command {
        name: "natlab",
        summary: "the programs behind every pair of boxes that homes have, each box proved first; \
                  `natlab --survive`: downloads that go on whatever happens, or those NAMEd",
        rest: Some("NAME"),
        flags: &[
            Flag {
                name: "--cell",
                value: Some("A:B"),
                help: "only this pair, consumer first, such as pr+cgn:sym or pub:pub@pr; \
                       again for more",
            },
            Flag {
                name: "--short",
                value: None,
                help: "only one pair of each class, without bars on times",
            },
            Flag {
                name: "--runs",
                value: Some("N"),
                help: "how often the consumer connects, in each cell (20, and 40 where chance \
                       decides; 2 in the short form)",
            },
            Flag {
                name: "--side-by-side",
                value: Some("N"),
                help: "so many worlds at once, each with a cell (1; 2 in the short form)",
            },
            Flag {
                name: "--continue",
                value: Some("FILE"),
                help: "take over the cells of an earlier, perhaps unfinished report",
            },
            Flag {
                name: "--list",
                value: None,
                help: "name the cells and their classes, and stop",
            },
            Flag {
                name: "--prove",
                value: None,
                help: "prove every kind of box and the delay line, without the programs",
            },
            Flag {
                name: "--survive",
                value: None,
                help: "downloads through changes of path, address, family, box and relay",
            },
            PROGRAMS,
            KEEP,
            JSON,
        ],
        run: natlab::run,
    },
    Command {
        name: "test",
        summary: "run every part of the tests, or only the PARTs named",
        rest: Some("PART"),
        flags: &[
            Flag {
                name: "--list",
                value: None,
                help: "name the parts and stop",
            },
            JSON,
        ],
        run: test::run,
    },
    Command {
        name: "tidy",
        summary: "hold the source to the house rules",
        rest: None,
        flags: &[JSON],
        run: tidy::run,
    },
    Command {
        name: "doctor",
        summary: "say what this machine lacks for building, testing and the demo",
        rest: None,
        flags: &[Flag {
            name: "--fix",
            value: None,
            help: "install what is missing",
        }],
        run: doctor::run,
    },
    Command {
        name: "ci",
        summary: "what a build machine runs: install what is missing, then test",
        rest: None,
        flags: &[JSON],
        run: ci::run,
    },
    Command {
        name: "vectors",
        summary: "answer payment requests, one JSON object a line, from stdin to stdout",
        rest: None,
        flags: &[],
        run: vectors::run,
    },
    Command {
        name: "bench",
        summary: "run the benchmarks, or only those whose name contains NAME; `bench tunnel`: \
                  the tunnel against its peers, in turn; `bench budget`: where its time goes; \
                  `bench payments`: what paying costs it; `bench relay`: what idle peers cost a relay; \
                  `bench gas`: what the contracts cost",
        rest: Some("NAME"),
        flags: &[
            Flag {
                name: "--rounds",
                value: Some("N"),
                help: "tunnel, payments: how often everybody has a turn (5)",
            },
            Flag {
                name: "--seconds",
                value: Some("N"),
                help: "how long each stream runs (tunnel: 5, budget and payments: 8)",
            },
            Flag {
                name: "--svg",
                value: Some("FILE"),
                help: "budget: draw the samples as a flame graph",
            },
            Flag {
                name: "--only",
                value: Some("LIST"),
                help: "tunnel: only these measures: tcp1,reverse,tcp4,udp64,udp1400,idle,\
                       loaded,consumers,sessions,junk",
            },
            Flag {
                name: "--idle",
                value: Some("N"),
                help: "relay: how many idle peers (10000)",
            },
            Flag {
                name: "--peers",
                value: Some("LIST"),
                help: "tunnel: only these: wireguard_go,boringtun,gotatun,openvpn, or none",
            },
            PROGRAMS,
            KEEP,
            JSON,
        ],
        run: bench::run,
    },
    Command {
        name: "fuzz",
        summary: "look for inputs that break the fuzz bodies, or only those of the TARGETs named",
        rest: Some("TARGET"),
        flags: &[
            Flag {
                name: "--seconds",
                value: Some("N"),
                help: "how long to look, for each target (60)",
            },
            Flag {
                name: "--seed",
                value: Some("N"),
                help: "begin as an earlier run did",
            },
            Flag {
                name: "--minimise",
                value: None,
                help: "put what was found into the committed corpus, as little as reaches as much",
            },
            JSON,
        ],
        run: fuzz::run,
    },
    Command {
        name: "web",
        summary: "",
        rest: None,
        flags: &[
            Flag {
                name: "--listen",
                value: Some("ADDRESS"),
                help: "address and port",
            },
            Flag {
                name: "--file",
                value: Some("FILE"),
                help: "what /file answers",
            },
        ],
        run: demo::web::run,
    },
    Command {
        name: "natlab-probe",
        summary: "",
        rest: Some("WORD"),
        flags: &[],
        run: natlab::probe::run,
    },
    Command {
        name: "natlab-delay",
        summary: "",
        rest: Some("QUEUE=MICROSECONDS"),
        flags: &[],
        run: natlab::delay::run,
    },
    Command {
        name: "natlab-door",
        summary: "",
        rest: Some("LISTEN=TARGET"),
        flags: &[],
        run: natlab::door::run,
    },
    Command {
        name: "natlab-origin",
        summary: "",
        rest: Some("WORD"),
        flags: &[],
        run: natlab::survival::origin,
    },
    Command {
        name: "natlab-fetch",
        summary: "",
        rest: Some("WORD"),
        flags: &[],
        run: natlab::fetch::run,
    },
    Command {
        name: "lab",
        summary: "hold two cabled namespaces until Ctrl-C, to try things by hand",
        rest: None,
        flags: &[],
        run: lab::hold::run,
    },
];
