//! `--help` of every command, kept as files.
//!
//! With `RINGWAY_BLESS=1` the test writes the files: read the difference before committing it.

use std::fs;
use std::path::Path;

use crate::support::run;

#[test]
fn help_is_as_kept() {
    let state = tempfile::tempdir().unwrap();
    let is_blessing = std::env::var_os("RINGWAY_BLESS").is_some();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    for command in [
        "",
        "serve",
        "keygen",
        "ping",
        "expose",
        "forward",
        "route",
        "route serve",
        "route find",
        "route dial",
        "route ls",
        "route stats",
        "curl",
        "status",
        "check-config",
        "config",
        "config show",
        "demo",
        "dmsg-discovery",
    ] {
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        arguments.push("--help");
        let help = run(state.path(), &arguments);
        assert_eq!(help.code, Some(0), "{}", help.err);
        let name = match command {
            "" => "ringway".to_owned(),
            command => command.replace(' ', "-"),
        };
        let file = directory.join(format!("help-{name}.txt"));
        if is_blessing {
            fs::write(&file, &help.out).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(
            help.out,
            kept,
            "{name}: RINGWAY_BLESS=1 writes {}",
            file.display()
        );
    }
}

#[test]
fn version_is_that_of_the_package() {
    let state = tempfile::tempdir().unwrap();
    let version = run(state.path(), &["--version"]);
    assert_eq!(
        version.out,
        format!("ringway {}\n", env!("CARGO_PKG_VERSION"))
    );
}
