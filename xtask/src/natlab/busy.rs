//! How busy the machine was meanwhile: times that are measured beside other work say so. It refuses
//! to tell who was: whatever the kernel counts, of this program or of another.

/// A look at the kernel's count of its processors' time.
#[derive(Clone, Copy, Debug)]
pub struct Busy(Option<Ticks>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    all: u64,
}

impl Busy {
    /// Looks.
    pub fn now() -> Self {
        Self(ticks(
            &std::fs::read_to_string("/proc/stat").unwrap_or_default(),
        ))
    }

    /// The share of all processors' time since then that was not idle; none where the kernel does
    /// not tell.
    pub fn share(self) -> Option<f64> {
        let (then, now) = (self.0?, Self::now().0?);
        between(then, now)
    }
}

fn between(then: Ticks, now: Ticks) -> Option<f64> {
    let all = now.all.checked_sub(then.all).filter(|all| *all > 0)?;
    let idle = now.idle.saturating_sub(then.idle).min(all);
    Some((all - idle) as f64 / all as f64)
}

/// The line of all processors together: user, nice, system, idle, iowait, irq, softirq, steal. What
/// follows is contained in the first two.
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields = line.split_whitespace().take(8);
    let fields = fields.map(str::parse).collect::<Result<Vec<u64>, _>>();
    let fields = fields.ok().filter(|fields| fields.len() > 4)?;
    Some(Ticks {
        idle: fields[3] + fields[4],
        all: fields.iter().sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_idle_is_busy() {
        let then = ticks("cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1 2 3 4\n").unwrap();
        let now = ticks("cpu  40 0 30 100 20 5 5 0 7 0\n").unwrap();
        assert_eq!(then, Ticks { idle: 80, all: 100 });
        assert_eq!(between(then, now), Some(0.6));
        assert_eq!(between(now, now), None);
        assert_eq!(ticks("cpu0 1 2 3 4\n"), None);
    }

    #[test]
    fn this_machine_tells() {
        assert!(Busy::now().0.is_some());
    }
}
