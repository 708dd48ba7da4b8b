//! A peer's process: one line asked, one line of JSON answered, in a limited time.

use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

pub struct Process {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
    /// What the process said about itself.
    pub version: String,
}

impl Process {
    /// Starts the command; what it prints besides its answers goes to the log.
    pub fn start(mut command: Command, log: &Path, limit: Duration) -> Result<Process, String> {
        let file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let program = command.get_program().to_string_lossy().into_owned();
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file).spawn();
        let mut child = spawned.map_err(|error| format!("{program} does not start: {error}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{program}: no pipes"));
        };
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut process = Process { child, input, answers, version: String::new() };
        let hello = process.answer(limit).map_err(|problem| format!("{problem}; {}", last_line(log)))?;
        process.version = hello.get("version").and_then(Value::as_str).unwrap_or_default().to_string();
        Ok(process)
    }

    /// The answer to a line, or why there is none. After a failure of the process itself it is over.
    pub fn ask(&mut self, line: &str, limit: Duration) -> Result<Value, Failure> {
        // A process that has ended is noticed by the answer that is missing.
        let _ = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
        let answer = self.answer(limit).map_err(Failure::Ended)?;
        match answer.get("failed").and_then(Value::as_str) {
            Some(reason) => Err(Failure::Said(reason.to_string())),
            None => Ok(answer),
        }
    }

    fn answer(&mut self, limit: Duration) -> Result<Value, String> {
        match self.answers.recv_timeout(limit) {
            Ok(line) => serde_json::from_str(&line).map_err(|_| format!("answered what is no JSON: {line}")),
            Err(RecvTimeoutError::Timeout) => Err(format!("no answer within {} s", limit.as_secs())),
            Err(RecvTimeoutError::Disconnected) => match self.child.wait() {
                Ok(status) => Err(format!("the process ended ({status})")),
                Err(error) => Err(format!("the process ended ({error})")),
            },
        }
    }
}

/// Why a line was not answered with a result.
pub enum Failure {
    /// The process lives and gave a reason.
    Said(String),
    /// It has ended, hangs or talks nonsense.
    Ended(String),
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last line of a log, where the reason of a failure mostly stands.
pub fn last_line(log: &Path) -> String {
    let said = std::fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    format!("{} ends with: {}", log.display(), last.unwrap_or("nothing"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Longer than any load of the machine takes.
    const LIMIT: Duration = Duration::from_secs(3600);

    fn start(script: &str, name: &str) -> Result<Process, String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(
            command,
            &std::env::temp_dir().join(format!("ropewalk_peer_{name}_{}", std::process::id())),
            LIMIT,
        )
    }

    fn said(failure: Failure) -> (bool, String) {
        match failure {
            Failure::Said(reason) => (true, reason),
            Failure::Ended(reason) => (false, reason),
        }
    }

    #[test]
    fn answers_reasons_and_ends_are_told_apart() {
        let script = r#"
            echo '{"version":"1"}'; read a; echo '{"ms":[1.5]}'
            read a; echo '{"failed":"no '"$a"'"}'; read a; exit 3"#;
        let mut peer = start(script, "told").unwrap();
        assert_eq!(peer.version, "1");
        assert_eq!(peer.ask("run p1 1 1", LIMIT).ok().unwrap()["ms"][0], 1.5);
        assert_eq!(said(peer.ask("p2", LIMIT).unwrap_err()), (true, "no p2".into()));
        let (alive, reason) = said(peer.ask("p3", LIMIT).unwrap_err());
        assert!(!alive && reason.contains("ended") && reason.contains('3'), "{reason}");
    }

    #[test]
    fn a_process_that_hangs_or_never_starts_is_a_reason() {
        let mut peer = start(r#"echo '{"version":"1"}'; exec sleep 60"#, "hangs").unwrap();
        let (alive, reason) = said(peer.ask("run", Duration::from_millis(50)).unwrap_err());
        assert!(!alive && reason.starts_with("no answer within"), "{reason}");
        let ended = start("echo no module of that name >&2; exit 1", "ends").err().unwrap();
        assert!(ended.contains("ended") && ended.ends_with("no module of that name"), "{ended}");
    }
}
