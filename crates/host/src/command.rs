//! The one way to run a program: bounded in time and output, errors that name command and cause.
//!
//! Refuses shells, inherited input and endless waiting.

use std::io::{ErrorKind, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::HostError;

/// `nft` and `ip` answer in milliseconds; ten seconds is a thousand times that and still shorter than an
/// operator's patience. Each of the two output streams is given it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most of an answer kept, bytes. `ip -j addr` is about 600 bytes an interface: room for ten thousand.
const LONGEST_ANSWER: u64 = 8 << 20;
/// Most of a complaint repeated in an error, characters.
const LONGEST_COMPLAINT: usize = 600;

/// Runs `nft -f -` on a script: the whole script is one kernel transaction.
pub(crate) fn nft(script: &str) -> Result<(), HostError> {
    run("nft", &["-f", "-"], Some(script)).map(drop)
}

/// Makes the table `inet <name>` anew, whether or not it is there, in one transaction. `block`: it, as written in a script.
pub(crate) fn nft_replace(name: &str, block: &str) -> Result<(), HostError> {
    nft(&format!(
        "table inet {name}\ndelete table inet {name}\n{block}"
    ))
}

/// As [`nft_replace`], sooner where there is none: a deletion waits until every processor has looked away, 20 ms.
pub(crate) fn nft_create(name: &str, block: &str) -> Result<(), HostError> {
    match nft(&format!("create table inet {name}\n{block}")) {
        Err(HostError::CommandFailed { stderr, .. }) if stderr.contains("File exists") => {
            nft_replace(name, block)
        }
        other => other,
    }
}

/// Runs `ip` with arguments.
pub(crate) fn ip(args: &[&str]) -> Result<(), HostError> {
    run("ip", args, None).map(drop)
}

/// Runs `ip` once on many command lines, ended by line feeds. `all`: a line that fails does not keep the others from
/// being tried, and is an error all the same.
pub(crate) fn ip_batch(lines: &str, all: bool) -> Result<(), HostError> {
    let args: &[&str] = if all {
        &["-force", "-batch", "-"]
    } else {
        &["-batch", "-"]
    };
    run("ip", args, Some(lines)).map(drop)
}

/// Runs `ip` once on many command lines of one family, given as `-4` or `-6`, up to the first that fails.
///
/// # Errors
/// With how many lines were carried out before.
pub(crate) fn ip_lines(family: &str, lines: &[String]) -> Result<(), (usize, HostError)> {
    let script: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    let failed = match run("ip", &[family, "-batch", "-"], Some(&script)) {
        Ok(_) => return Ok(()),
        Err(failed) => failed,
    };
    let done = match &failed {
        HostError::CommandFailed { stderr, .. } => {
            let place = stderr.rsplit_once("Command failed -:");
            place.and_then(|(_, line)| line.trim().parse::<usize>().ok())
        }
        // Nobody knows.
        HostError::TimedOut { .. } => None,
        _ => Some(1),
    };
    let done = done.map_or(lines.len(), |line| line.saturating_sub(1));
    Err((done, failed))
}

/// Runs `ip -j` and reads its answer; no output at all means an empty list.
pub(crate) fn ip_json<T: DeserializeOwned>(args: &[&str]) -> Result<Vec<T>, HostError> {
    let mut all = vec!["-j"];
    all.extend_from_slice(args);
    let answer = run("ip", &all, None)?;
    if answer.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    serde_json::from_slice(&answer).map_err(|source| HostError::Unreadable {
        command: line("ip", &all),
        source,
    })
}

fn run(program: &str, args: &[&str], input: Option<&str>) -> Result<Vec<u8>, HostError> {
    let command = line(program, args);
    let not_run = |source| HostError::NotRun {
        command: command.clone(),
        source,
    };
    let mut child = spawn(program, args, input.is_some(), not_run)?;
    let finished = converse(&mut child, input.unwrap_or_default());
    let Some(Finished {
        status,
        answer,
        complaint,
    }) = finished.map_err(not_run)?
    else {
        return Err(HostError::TimedOut {
            command,
            after: TIMEOUT,
        });
    };
    if status.success() {
        return Ok(answer);
    }
    Err(refusal(command, status, &complaint))
}

struct Finished {
    status: ExitStatus,
    answer: Vec<u8>,
    complaint: Vec<u8>,
}

/// Feeds and drains a child until it ends; `None` when it had to be killed.
fn converse(child: &mut Child, input: &str) -> std::io::Result<Option<Finished>> {
    let (sender, receiver) = mpsc::channel();
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        // A child that stops reading also ends or is killed: the write then fails and the thread ends.
        std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        stdout.map(|s| Box::new(s) as _),
        stderr.map(|s| Box::new(s) as _),
    ];
    for (which, stream) in streams.into_iter().enumerate() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(stream) = stream {
                let _cut = stream.take(LONGEST_ANSWER).read_to_end(&mut text);
            }
            let _gone = sender.send((which, text));
        });
    }
    let mut texts = [Vec::new(), Vec::new()];
    for _stream in 0..texts.len() {
        let Ok((which, text)) = receiver.recv_timeout(TIMEOUT) else {
            let _ended = child.kill();
            child.wait()?;
            return Ok(None);
        };
        texts[which] = text;
    }
    // Both pipes are closed: the programs driven here end right after.
    let status = child.wait()?;
    let [answer, complaint] = texts;
    Ok(Some(Finished {
        status,
        answer,
        complaint,
    }))
}

fn refusal(command: String, status: ExitStatus, complaint: &[u8]) -> HostError {
    let stderr: String = String::from_utf8_lossy(complaint)
        .trim()
        .chars()
        .take(LONGEST_COMPLAINT)
        .collect();
    if stderr.contains("Operation not permitted") {
        return HostError::MissingPrivilege {
            action: format!("`{command}`"),
        };
    }
    HostError::CommandFailed {
        command,
        status: status.to_string(),
        stderr,
    }
}

/// Starts a program found in `PATH` or in the administrator's folders, which the `PATH` of an ordinary user lacks
/// on Debian.
fn spawn(
    program: &str,
    args: &[&str],
    fed: bool,
    not_run: impl Fn(std::io::Error) -> HostError,
) -> Result<Child, HostError> {
    for folder in ["", "/usr/sbin/", "/sbin/"] {
        let started = Command::new(format!("{folder}{program}"))
            .args(args)
            .env("LC_ALL", "C")
            .stdin(if fed { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        match started {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => return other.map_err(not_run),
        }
    }
    let package = match program {
        "nft" => "nftables",
        "ip" => "iproute2",
        other => other,
    };
    Err(HostError::MissingProgram {
        program: program.to_owned(),
        package: package.to_owned(),
    })
}

fn line(program: &str, args: &[&str]) -> String {
    std::iter::once(program)
        .chain(args.iter().copied())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = run("wayfare-no-such-program", &[], None).unwrap_err();
        assert!(
            matches!(&error, HostError::MissingProgram { program, .. } if program == "wayfare-no-such-program")
        );
        assert!(error.to_string().contains("install the package"));
    }

    #[test]
    fn a_refusal_quotes_the_program() {
        let error = run("ip", &["link", "show", "dev", "no-such-if"], None).unwrap_err();
        let HostError::CommandFailed {
            command, stderr, ..
        } = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(command, "ip link show dev no-such-if");
        assert!(stderr.contains("does not exist"), "{stderr}");
    }

    #[test]
    fn input_larger_than_a_pipe_is_passed_whole() {
        let text = "x".repeat(1 << 20);
        assert_eq!(run("cat", &[], Some(&text)).unwrap(), text.as_bytes());
    }
}
