//! `keygen` and key files.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::run;

#[test]
fn keygen_refuses_to_replace_a_key() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("relay.key");
    let path = path.to_str().unwrap();
    let first = run(state.path(), &["keygen", path]);
    assert_eq!(first.code, Some(0), "{}", first.err);
    assert_eq!(first.out.trim().len(), 64);
    let second = run(state.path(), &["keygen", path]);
    assert_eq!(second.code, Some(1));
    assert!(
        second.err.contains("--force") && second.err.lines().count() == 1,
        "{}",
        second.err
    );
    assert_eq!(
        run(state.path(), &["keygen", "--show", path]).out,
        first.out
    );
    let forced = run(state.path(), &["keygen", "--force", path]);
    assert_eq!(forced.code, Some(0));
    assert_ne!(forced.out, first.out);
    assert_eq!(
        fs::metadata(path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
}

#[test]
fn bad_key_files_are_refused_with_the_fix() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("relay.key");
    fs::write(&path, "nonsense\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let name = path.to_str().unwrap();
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "off",
        "--key-file",
        name,
    ];
    let open = run(state.path(), &arguments);
    assert_eq!(open.code, Some(1));
    assert!(
        open.err.contains("mode 0644") && open.err.contains("chmod 600"),
        "{}",
        open.err
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let bad = run(state.path(), &arguments);
    assert_eq!(bad.code, Some(1));
    assert!(
        bad.err.contains("64 characters") && bad.err.contains("keygen"),
        "{}",
        bad.err
    );
}

#[test]
fn no_place_for_state_names_the_flag() {
    let state = tempfile::tempdir().unwrap();
    let mut command = crate::support::ringway(state.path(), &["keygen"]);
    let output = command.env_remove("XDG_STATE_HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("--state-dir"), "{err}");
}
