//! The live view on a pseudo-terminal: the terminal is given back on every way out.
//!
//! Here: taking and giving back, keys and signals. Not here: the picture (`live`).

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ringway_loadgen::servers::Server;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

/// A program on a terminal of its own.
struct Seat {
    keyboard: File,
    screen: File,
    /// Keeps the terminal after the program has ended.
    terminal: OwnedFd,
    before: Termios,
    child: Child,
    /// All that was written.
    written: String,
}

impl Seat {
    fn start(arguments: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it opens");
        let terminal = ioctl_tiocgptpeer(&master, flags).expect("its other end");
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).expect("a size");
        let before = tcgetattr(&terminal).expect("its modes");
        let end = || Stdio::from(terminal.try_clone().expect("a descriptor"));
        let child = Command::new(env!("CARGO_BIN_EXE_ringway-loadgen"))
            .args(arguments)
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("the program starts");
        let screen = File::from(master.try_clone().expect("a descriptor"));
        Self {
            keyboard: File::from(master),
            screen,
            terminal,
            before,
            child,
            written: String::new(),
        }
    }

    /// Reads until a text has been written.
    fn wait_for(&mut self, text: &str) {
        let mut bytes = [0; 4_096];
        while !self.written.contains(text) {
            let count = self.screen.read(&mut bytes).expect("the terminal is open");
            assert!(count > 0, "{}", self.written);
            self.written += &String::from_utf8_lossy(&bytes[..count]);
        }
    }

    /// Waits for the end; returns the status, after the terminal has been looked at.
    fn end(mut self) -> (Option<i32>, String) {
        // What is read after this was written before the program ended.
        let status = self.child.wait().expect("it ends");
        let after = tcgetattr(&self.terminal).expect("its modes");
        File::from(self.terminal.try_clone().expect("a descriptor"))
            .write_all(b"THE END")
            .expect("the terminal is open");
        self.wait_for("THE END");
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!(after.input_modes, self.before.input_modes);
        assert_eq!(after.output_modes, self.before.output_modes);
        for (taken, given_back) in [("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?25l", "\x1b[?25h")] {
            let taken = self.written.rfind(taken).expect("a view was shown");
            let given_back = self.written.rfind(given_back).expect("it was given back");
            assert!(taken < given_back, "{}", self.written);
        }
        (status.code(), self.written)
    }
}

/// Starts a null server that ends with its owner.
fn server() -> Server {
    let program = Path::new(env!("CARGO_BIN_EXE_ringway-loadgen"));
    Server::null(program, 1, 1_024, false).expect("it listens")
}

/// Returns the flags of a run that goes on until it is ended.
fn flags(address: &str) -> Vec<&str> {
    let mut flags = vec!["plain", "--mode", "ping-pong", "--message-size", "64"];
    flags.extend([
        "--rate",
        "100",
        "--duration",
        "1h",
        "--warmup",
        "0s",
        "--tcp",
        address,
    ]);
    flags
}

#[test]
fn a_key_ends_the_run_early_and_leaves_a_result() {
    let server = server();
    for key in ["q", "\x03"] {
        let mut seat = Seat::start(&flags(&server.address.to_string()));
        // Then it counts.
        seat.wait_for("ESTABLISHED");
        seat.keyboard.write_all(key.as_bytes()).unwrap();
        let (status, written) = seat.end();
        assert_eq!(status, Some(130), "{written}");
        assert!(written.contains("the run was cut short"), "{written}");
    }
}

#[test]
fn a_signal_ends_the_run_early_as_well() {
    let server = server();
    let mut seat = Seat::start(&flags(&server.address.to_string()));
    seat.wait_for("127.0.0.1:");
    let pid = Pid::from_raw(i32::try_from(seat.child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let (status, written) = seat.end();
    assert_eq!(status, Some(130), "{written}");
}

#[test]
fn a_run_that_ends_at_once_gives_the_terminal_back() {
    // Nobody listens there.
    let seat = Seat::start(&flags("127.0.0.1:9"));
    let (status, written) = seat.end();
    assert_eq!(status, Some(1), "{written}");
    assert!(written.contains("connect: Connection refused"), "{written}");
}

#[test]
fn one_line_is_shown_where_no_view_is_wanted() {
    let server = server();
    let address = server.address.to_string();
    let mut arguments = flags(&address);
    arguments.push("--no-live");
    let mut seat = Seat::start(&arguments);
    seat.wait_for("messages/s");
    seat.keyboard.write_all(b"q").unwrap();
    assert!(!seat.written.contains("\x1b[?1049h"), "{}", seat.written);
    // Keys are nothing to it.
    assert_eq!(seat.child.try_wait().unwrap(), None);
    seat.child.kill().unwrap();
    seat.child.wait().unwrap();
}
