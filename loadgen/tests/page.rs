//! Pages of real runs, made by the program.
//!
//! Here: `--out`, `report`, and what a run that is killed leaves. Not here: what stands on a page
//! (`report::page`).

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use ringway_loadgen::servers;

/// A null server of its own process; killed with its owner.
struct Server(servers::Server);

impl Server {
    fn start() -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_ringway-loadgen"));
        Self(servers::Server::null(program, 1, 1_024, false).expect("it listens"))
    }

    /// Returns a run against it that lasts `duration`.
    fn run(&self, duration: &str, out: &Path) -> Command {
        let mut command = program();
        command
            .args([
                "plain",
                "--mode",
                "ping-pong",
                "--message-size",
                "64",
                "--rate",
                "300",
            ])
            .args([
                "--tcp",
                &self.0.address.to_string(),
                "--duration",
                duration,
                "--warmup",
                "0s",
            ])
            .args([
                "--lag-max",
                "10000000",
                "--relay-pid",
                &self.0.pid().to_string(),
            ])
            .arg("--out")
            .arg(out);
        command
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ringway-loadgen"))
}

fn report(directory: &Path, more: &[&str]) -> Output {
    let mut command = program();
    command.arg("report").arg(directory).args(more);
    command.output().expect("the program starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_page_is_made_again_byte_by_byte() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let done = server.run("1200ms", home.path()).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let page = home.path().join("report.html");
    let first = fs::read_to_string(&page).unwrap();
    for part in ["<h1>plain</h1>", "Good", "ESTABLISHED", "Resident memory"] {
        assert!(first.contains(part), "{part}");
    }
    fs::remove_file(&page).unwrap();
    let made = report(home.path(), &[]);
    assert!(made.status.success(), "{made:?}");
    assert!(said(&made).contains("report.html"), "{made:?}");
    assert!(fs::read_to_string(&page).unwrap() == first, "two pages");
    let other = home.path().join("other.html");
    let made = report(home.path(), &["--output", other.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    assert!(fs::read_to_string(&other).unwrap() == first, "two pages");
    let made = report(home.path(), &["--output", "-"]);
    assert!(made.stdout == first.as_bytes(), "two pages");
    // Nowhere to write it to.
    let made = report(home.path(), &["--output", "/dev/full/report.html"]);
    assert_eq!(made.status.code(), Some(1));
    assert!(said(&made).contains("/dev/full/report.html"), "{made:?}");
}

#[test]
fn a_run_that_was_killed_leaves_a_page() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let mut child = server.run("1h", home.path()).spawn().unwrap();
    let rows = home.path().join("intervals.jsonl");
    while !fs::read_to_string(&rows).is_ok_and(|text| text.contains('\n')) {
        assert_eq!(child.try_wait().unwrap(), None, "the run has ended");
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!home.path().join("run.json").exists());
    let made = report(home.path(), &[]);
    assert!(made.status.success(), "{made:?}");
    let page = fs::read_to_string(home.path().join("report.html")).unwrap();
    assert!(page.contains("did not come to its end"), "{page}");
    assert!(page.contains("<svg"), "{page}");
}

#[test]
fn what_is_no_result_is_refused_with_file_and_fix() {
    let home = tempfile::tempdir().unwrap();
    let nowhere = home.path().join("nowhere");
    let file = home.path().join("file");
    fs::write(&file, "x").unwrap();
    for directory in [home.path(), &nowhere, &file] {
        let made = report(directory, &[]);
        assert_eq!(made.status.code(), Some(2), "{made:?}");
        let said = said(&made);
        assert!(said.contains(directory.to_str().unwrap()), "{said}");
        assert!(said.contains("--out"), "{said}");
    }
    let server = Server::start();
    for name in ["run.json", "intervals.jsonl", "latency.hlog"] {
        let out = home.path().join(name);
        let done = server.run("100ms", &out).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let cut = out.join(name);
        let text = fs::read_to_string(&cut).unwrap();
        fs::write(&cut, &text[..text.len() - 30]).unwrap();
        let made = report(&out, &[]);
        assert_eq!(made.status.code(), Some(2), "{made:?}");
        let said = said(&made);
        assert!(
            said.contains(cut.to_str().unwrap()) && said.contains("cut"),
            "{said}"
        );
    }
}
