//! The commands of docs/loadgen.md, run as they stand there.
//!
//! Here: the console blocks of the page: each command, the beginnings of lines that its output has, its exit
//! status. Where this machine makes no network namespaces for everybody, the first command is refused, and
//! that is checked instead.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A command of the page.
#[derive(Debug, Default)]
struct Step {
    command: String,
    /// Beginnings of lines of its output, in their order.
    lines: Vec<String>,
    status: Option<i32>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            is_inside = line == "```console";
        } else if !is_inside {
            continue;
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                command: command.to_owned(),
                ..Step::default()
            });
        } else if let Some(step) = steps.last_mut() {
            let status = line.strip_prefix("[exit status ");
            match status.and_then(|text| text.strip_suffix(']')) {
                Some(status) => step.status = status.parse().ok(),
                None => step.lines.push(line.to_owned()),
            }
        }
    }
    steps
}

/// Builds the tuning tool; returns the directory of both programs.
fn programs() -> std::path::PathBuf {
    let loadgen = Path::new(env!("CARGO_BIN_EXE_ringway-loadgen"));
    let directory = loadgen.parent().expect("a directory");
    if !directory.join("ringway-tune").exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--locked",
            "-p",
            "ringway-tuning",
            "--bin",
            "ringway-tune",
        ]);
        if directory.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success());
    }
    directory.to_owned()
}

#[test]
fn the_tutorial_does_what_it_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/loadgen.md");
    let steps = steps(&fs::read_to_string(page).expect("the page"));
    assert!(steps.len() >= 6, "{steps:?}");
    let programs = programs();
    // sysctl and ip are not in the path of every user.
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}:/usr/sbin:/sbin", programs.display());
    let scratch = tempfile::tempdir().expect("a directory");
    let can = Command::new("unshare").args(["-rn", "true"]).output();
    let can = can.is_ok_and(|output| output.status.success());
    for step in steps {
        // The page shows two commands in a row: the first has no status of its own only by mistake.
        let wanted = step.status.expect("each command has its exit status");
        let output = Command::new("sh")
            .args(["-c", &step.command])
            .current_dir(scratch.path())
            .env("PATH", &path)
            .output()
            .expect("a shell");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&output.stderr);
        if !can {
            assert!(!output.status.success(), "{}: {text}", step.command);
            return;
        }
        assert_eq!(
            output.status.code(),
            Some(wanted),
            "{}\n{text}{complaints}",
            step.command
        );
        let mut lines = text.lines();
        for start in &step.lines {
            let found = lines.any(|line| line.trim_start().starts_with(start.trim_start()));
            assert!(found, "{}: no line '{start}' in\n{text}", step.command);
        }
    }
}
