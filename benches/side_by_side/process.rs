//! What a process of the service takes, as the kernel and its own metrics tell.

use std::time::Duration;

use crate::support::service::Service;

/// Bytes in memory, now and at most.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident: u64,
    pub peak: u64,
}

pub fn memory(pid: u32) -> Memory {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let kib = |label: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(label)).expect("Linux tells it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    };
    Memory { resident: kib("VmRSS:"), peak: kib("VmHWM:") }
}

/// Processor time that a process has used so far: that of its driver, and that of all of its threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub driver: Duration,
    pub all: Duration,
}

impl Cpu {
    pub fn of(pid: u32) -> Self {
        let mut cpu = Self::default();
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs") {
            let task = task.expect("an entry").path();
            // A thread may end meanwhile.
            let (Ok(name), Ok(told)) =
                (std::fs::read_to_string(task.join("comm")), std::fs::read_to_string(task.join("schedstat")))
            else {
                continue;
            };
            let nanos = told.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default();
            let time = Duration::from_nanos(nanos);
            cpu.all += time;
            if name.trim() == "driver" {
                cpu.driver += time;
            }
        }
        cpu
    }

    pub fn since(self, before: Self) -> Self {
        Self { driver: self.driver.saturating_sub(before.driver), all: self.all.saturating_sub(before.all) }
    }
}

/// What the service has counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub observations: f64,
    pub events: f64,
    pub settled: f64,
    pub commits: f64,
    pub commit_seconds: f64,
    pub inputs: f64,
    pub steps: f64,
}

impl Counted {
    pub async fn of(service: &Service) -> Self {
        let text = service.metrics().await;
        // Over all labels.
        let sum = |name: &str| -> f64 {
            let value = |line: &str| {
                let rest = line.strip_prefix("h402_watch_driver_")?.strip_prefix(name)?;
                let rest = if rest.starts_with('{') { rest.split_once('}')?.1 } else { rest };
                rest.strip_prefix(' ')?.trim().parse::<f64>().ok()
            };
            text.lines().filter_map(value).sum()
        };
        Self {
            observations: sum("observations_total"),
            events: sum("events_total"),
            settled: sum("outcomes_total"),
            commits: sum("commit_seconds_count"),
            commit_seconds: sum("commit_seconds_sum"),
            inputs: sum("commit_inputs_sum"),
            steps: sum("commit_inputs_count"),
        }
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            observations: self.observations - before.observations,
            events: self.events - before.events,
            settled: self.settled - before.settled,
            commits: self.commits - before.commits,
            commit_seconds: self.commit_seconds - before.commit_seconds,
            inputs: self.inputs - before.inputs,
            steps: self.steps - before.steps,
        }
    }
}

/// How a service fared over a stretch of time.
#[derive(Clone, Copy)]
pub struct Stretch {
    pub time: Duration,
    pub cpu: Cpu,
    pub counted: Counted,
}

pub struct Stopwatch {
    started: std::time::Instant,
    cpu: Cpu,
    counted: Counted,
}

impl Stopwatch {
    pub async fn start(service: &Service) -> Self {
        let counted = Counted::of(service).await;
        Self { counted, cpu: Cpu::of(service.pid().expect("it runs")), started: std::time::Instant::now() }
    }

    pub async fn stop(self, service: &Service) -> Stretch {
        let time = self.started.elapsed();
        let cpu = Cpu::of(service.pid().expect("it runs")).since(self.cpu);
        Stretch { time, cpu, counted: Counted::of(service).await.since(self.counted) }
    }
}

impl Stretch {
    /// In words, for the notes of rows.
    pub fn told(&self) -> String {
        let seconds = self.time.as_secs_f64();
        let (commits, inputs) = (self.counted.commits.max(1.0), self.counted.inputs / self.counted.steps.max(1.0));
        format!(
            "the service took {:.2} cores, its driver {:.2} of them; {:.0} commits of {:.2} ms in {seconds:.1} s, {inputs:.0} inputs in \
             a step",
            self.cpu.all.as_secs_f64() / seconds,
            self.cpu.driver.as_secs_f64() / seconds,
            self.counted.commits,
            self.counted.commit_seconds / commits * 1e3,
        )
    }
}
