//! What goes wrong between an apply and its rollback: kills, full disks, others who change things, damaged
//! records.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn what_somebody_changed_since_is_left_unless_forced() {
    let image = Image::new();
    let before = image.everything();
    image
        .changes("connections")
        .write(&image.rollback_file())
        .unwrap();
    image.put("proc/sys/vm/swappiness", "1\n");
    image.put("etc/sysctl.d/60-ringway.conf", "# mine\n");
    fs::remove_file(image.at("usr/local/sbin/ringway-network.sh")).unwrap();
    let restored = image.rollback(false).unwrap();
    let left = restored.left.join("\n");
    assert_eq!(restored.left.len(), 2, "{left}");
    assert!(
        left.contains(
            "vm.swappiness: somebody has set it to 1 since (the apply set 10, before it was 60)"
        ),
        "{left}"
    );
    assert!(
        left.contains("60-ringway.conf: somebody has changed it since"),
        "{left}"
    );
    assert_eq!(image.has("proc/sys/vm/swappiness"), "1\n");
    assert!(
        image.rollback_file().exists(),
        "the record stays while something is left"
    );
    let restored = image.rollback(true).unwrap();
    assert_eq!(restored.left, Vec::<String>::new());
    drop(fs::remove_dir_all(image.at("var")));
    assert_eq!(image.everything(), before);
}

#[test]
fn a_killed_apply_or_rollback_is_taken_back_from_any_step() {
    let image = Image::new();
    fs::create_dir_all(image.at("var/lib/ringway-tune")).unwrap();
    let before = image.everything();
    image
        .changes("connections")
        .write(&image.rollback_file())
        .unwrap();
    let record = fs::read(image.rollback_file()).unwrap();
    let after = image.everything();
    let values: Vec<_> = after.iter().filter(|(path, ..)| path.is_file()).collect();
    for stop in 0..values.len() {
        // The first `stop` files are as before, the others as after, and a file is half-written beside its
        // place.
        for (index, (path, _, bytes)) in values.iter().enumerate() {
            let old = before.iter().find(|(other, ..)| other == path);
            match (index < stop, old) {
                (true, Some((_, _, old))) => fs::write(path, old).unwrap(),
                (true, None) if *path != image.rollback_file() => drop(fs::remove_file(path)),
                _ => fs::write(path, bytes).unwrap(),
            }
        }
        image.put("etc/sysctl.d/60-ringway.conf.ringway-tune.tmp", "half");
        let restored = image.rollback(false).unwrap();
        assert_eq!(restored.left, Vec::<String>::new(), "stopped after {stop}");
        assert_eq!(image.everything(), before, "stopped after {stop}");
        // Again from the state after the apply.
        for (path, mode, bytes) in &after {
            if mode & 0o170_000 == 0o040_000 {
                drop(fs::create_dir_all(path));
            } else {
                fs::write(path, bytes).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
            }
        }
        fs::write(image.rollback_file(), &record).unwrap();
    }
}

#[test]
fn failure_in_the_middle_takes_everything_back() {
    let image = Image::new();
    fs::create_dir_all(image.at("var/lib/ringway-tune")).unwrap();
    // It can be opened and read, and every write ends with "no space left".
    let path = image.at("proc/sys/net/ipv4/tcp_rmem");
    let changes = image.changes("connections");
    fs::remove_file(&path).unwrap();
    symlink("/dev/full", &path).unwrap();
    let values = |image: &Image| {
        VALUES
            .iter()
            .filter(|(name, _)| !name.ends_with("tcp_rmem"))
            .all(|(name, text)| image.has(&format!("proc/sys/{name}")) == *text)
    };
    let error = changes.write(&image.rollback_file()).unwrap_err();
    // The kernel's file itself is what cannot be put back here: that is said, with the way on.
    let text = error.to_string();
    assert!(matches!(error, ApplyError::Stuck { .. }), "{text}");
    assert!(
        text.contains("net.ipv4.tcp_rmem: cannot be set to 4096 131072 1048576"),
        "{text}"
    );
    assert!(
        text.contains("Run `ringway-tune rollback --rollback-file"),
        "{text}"
    );
    assert!(values(&image), "every other value is as it was");
    assert!(image.rollback_file().exists());
    fs::remove_file(&path).unwrap();
    image.put("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n");
    assert_eq!(image.rollback(false).unwrap().left, Vec::<String>::new());
}

#[test]
fn failure_that_can_be_taken_back_leaves_no_record() {
    let image = Image::new();
    fs::create_dir_all(image.at("var/lib/ringway-tune")).unwrap();
    let changes = image.changes("connections");
    // A directory where the last file goes, made after the look.
    fs::create_dir_all(image.at("usr/local/sbin/ringway-network.sh.ringway-tune.tmp")).unwrap();
    fs::create_dir_all(image.at("etc/sysctl.d")).unwrap();
    image.put(
        "etc/systemd/system/ringway.service.d",
        "a file in place of the directory",
    );
    let error = changes.write(&image.rollback_file()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("ringway.service.d/60-ringway.conf: cannot be written"),
        "{text}"
    );
    assert_eq!(image.has("proc/sys/vm/swappiness"), "60\n");
    assert!(!image.at("etc/sysctl.d/60-ringway.conf").exists());
}

#[test]
fn nothing_is_changed_where_something_cannot_be() {
    let image = Image::new();
    fs::create_dir_all(image.at("etc/sysctl.d/60-ringway.conf")).unwrap();
    let changes = image.changes("connections");
    let before = image.everything();
    let text = changes
        .write(&image.rollback_file())
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("nothing was changed")
            && text.contains("60-ringway.conf: is no regular file"),
        "{text}"
    );
    assert_eq!(image.everything(), before);

    // The record cannot be written: no room for it, nothing done.
    let image = Image::new();
    image.put("var", "a file in place of the directory");
    let before = image.everything();
    let error = image
        .changes("connections")
        .write(&image.rollback_file())
        .unwrap_err();
    assert!(matches!(error, ApplyError::Record { .. }), "{error}");
    assert_eq!(image.everything(), before);
}

#[test]
fn obstacles_say_what_to_do() {
    for (error, fix) in [
        (io::ErrorKind::PermissionDenied, "run it as root"),
        (
            io::ErrorKind::ReadOnlyFilesystem,
            "render --profile container",
        ),
        (io::ErrorKind::StorageFull, "make room"),
    ] {
        assert!(files::fix(&error.into()).contains(fix));
    }
}

#[test]
fn records_that_are_damaged_or_foreign_are_refused() {
    let image = Image::new();
    image
        .changes("connections")
        .write(&image.rollback_file())
        .unwrap();
    let record = image.has("var/lib/ringway-tune/rollback.json");
    let before = image.everything();
    let refused = |text: &str, expected: &str| {
        image.put("var/lib/ringway-tune/rollback.json", text);
        let error = image.rollback(false).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&record[..record.len() / 2], "is damaged");
    refused("", "is damaged");
    refused(
        &record.replace("\"format\": 1", "\"format\": 2"),
        "has the form 2, this program knows 1",
    );
    refused(
        &record.replace("host-1", "host-2"),
        "was written on another host (machine-id host-2, this one is host-1)",
    );
    image.put("var/lib/ringway-tune/rollback.json", &record);
    assert_eq!(image.everything(), before);
    let shared = fs::Permissions::from_mode(0o666);
    fs::set_permissions(image.rollback_file(), shared).unwrap();
    let error = image.rollback(true).unwrap_err().to_string();
    assert!(error.contains("others may write it"), "{error}");
}

#[test]
fn another_start_or_an_unknown_host_is_said() {
    let image = Image::new();
    image
        .changes("connections")
        .write(&image.rollback_file())
        .unwrap();
    image.put("proc/sys/kernel/random/boot_id", "start-2\n");
    fs::remove_file(image.at("etc/machine-id")).unwrap();
    let rollback = Rollback::read(&image.rollback_file(), &image.root(), false).unwrap();
    let notes = rollback.notes.join("\n");
    assert!(
        notes.contains("started again since") && notes.contains("machine-id could not be read"),
        "{notes}"
    );
    assert_eq!(rollback.profile(), "connections");
}
