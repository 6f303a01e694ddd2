//! The files that settings are written to.
//!
//! Here: which files there are for whom, what stands at their top, how a setting is explained. Not here:
//! containers (`container`), the script's text (`network.sh`), which values (`profile`).
//!
//! Invariant: the same settings give the same bytes; no file says when or where it was written.

mod container;

use crate::check::{Congestion, sessions_of};
use crate::parse;
use crate::profile::{Kind, Rule, Setting, Surface, Tuning};

/// A file that is ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedFile {
    /// Where it goes below a directory of files to look at.
    pub path: &'static str,
    /// Where the host looks for it; none where somebody else is to be given it.
    pub installed: Option<&'static str>,
    /// Permission bits.
    pub mode: u32,
    /// What stands in it.
    pub text: String,
}

/// Returns the files of a tuning.
#[must_use]
pub fn render(tuning: &Tuning) -> Vec<RenderedFile> {
    match tuning.surface {
        Surface::Container => container::files(tuning),
        Surface::Host => vec![sysctl(tuning), limits(tuning), unit(tuning), script(tuning)],
    }
}

fn sysctl(tuning: &Tuning) -> RenderedFile {
    let mut text = head(
        tuning,
        "Kernel settings",
        "copy to /etc/sysctl.d/ and run `sysctl --system`. Values are what the target needs: where the host has \
         more, `ringway-tune apply` keeps that, and this file would not",
    );
    for setting in of_kind(tuning, Kind::Sysctl) {
        text.push('\n');
        text.push_str(&explanation(setting));
        // A name of a list may be one that this kernel does not have; sysctl.d(5) passes over it.
        let mark = match (&setting.is_comment_because, setting.rule) {
            (Some(_), _) => "# ",
            (None, Rule::With) => "-",
            (None, _) => "",
        };
        line(
            &mut text,
            format_args!("{mark}{} = {}", setting.name, setting.value),
        );
    }
    RenderedFile {
        path: "sysctl.d/60-ringway.conf",
        installed: Some(SYSCTL_FILE),
        mode: 0o644,
        text,
    }
}

fn limits(tuning: &Tuning) -> RenderedFile {
    let mut text = head(
        tuning,
        "Limits of login sessions (a unit has its own)",
        "copy to /etc/security/limits.d/, log in again as the user ringway",
    );
    for setting in of_kind(tuning, Kind::Limit) {
        text.push('\n');
        text.push_str(&explanation(setting));
        let value = of_login(setting);
        for strength in ["soft", "hard"] {
            line(
                &mut text,
                format_args!("ringway     {strength}    {:<10} {value}", setting.name),
            );
        }
    }
    RenderedFile {
        path: "limits.d/60-ringway.conf",
        installed: Some("/etc/security/limits.d/60-ringway.conf"),
        mode: 0o644,
        text,
    }
}

/// Returns a limit as limits.d has it: memory in KiB. Source: limits.conf(5).
fn of_login(setting: &Setting) -> String {
    let bytes: Option<u64> = parse::number(&setting.value);
    match (setting.name.as_str(), bytes) {
        ("memlock", Some(bytes)) => bytes.div_ceil(1_024).to_string(),
        _ => setting.value.clone(),
    }
}

fn unit(tuning: &Tuning) -> RenderedFile {
    let mut text = head(
        tuning,
        "Limits of the relay's unit",
        "copy to /etc/systemd/system/ringway.service.d/, then `systemctl daemon-reload` and restart ringway",
    );
    text.push_str("\n[Service]\n");
    for setting in of_kind(tuning, Kind::Limit) {
        text.push_str(&explanation(setting));
        let name = setting.name.to_uppercase();
        line(&mut text, format_args!("Limit{name}={}", setting.value));
    }
    for setting in of_kind(tuning, Kind::Unit) {
        text.push_str(&explanation(setting));
        line(
            &mut text,
            format_args!("{}={}", setting.name, setting.value),
        );
    }
    RenderedFile {
        path: "systemd/ringway.service.d/60-ringway.conf",
        installed: Some("/etc/systemd/system/ringway.service.d/60-ringway.conf"),
        mode: 0o644,
        text,
    }
}

/// The script's own text begins after the settings, so that they stand where an operator looks for them.
fn script(tuning: &Tuning) -> RenderedFile {
    let mut text = "#!/bin/sh\n".to_owned();
    text.push_str(&head(
        tuning,
        "Network cards, pages and processors",
        "run it as root at each start, with the names of the cards: ringway-network.sh eth0",
    ));
    for name in ["irq", "rps", "xps", "rfs_entries", "huge_pages", "governor"] {
        let variable = name.to_uppercase();
        match of_kind(tuning, Kind::Device).find(|setting| setting.name == name) {
            Some(setting) => {
                text.push('\n');
                text.push_str(&explanation(setting));
                line(&mut text, format_args!("{variable}={}", setting.value));
            }
            None => line(&mut text, format_args!("\n# Left as it is.\n{variable}=")),
        }
    }
    text.push('\n');
    text.push_str(include_str!("render/network.sh"));
    RenderedFile {
        path: "ringway-network.sh",
        installed: Some("/usr/local/sbin/ringway-network.sh"),
        mode: 0o755,
        text,
    }
}

fn of_kind(tuning: &Tuning, kind: Kind) -> impl Iterator<Item = &Setting> {
    let settings = tuning.settings.iter();
    settings.filter(move |setting| setting.kind == kind)
}

/// Returns what stands at the top of every file: what it is, for which target, how it was made, how it is
/// used.
fn head(tuning: &Tuning, what: &str, install: &str) -> String {
    let Tuning {
        profile,
        summary,
        trade,
        target,
        ..
    } = tuning;
    let sessions = sessions_of(target);
    let congestion = match &target.congestion {
        Congestion::Automatic => "auto",
        Congestion::Named(name) => name,
        Congestion::System => "system",
    };
    let mut text = comment(&format!(
        "{what} for a Ringway relay of {sessions} sessions on {} shards. Profile {profile}: {summary}. It costs: \
         {trade}.",
        target.shards
    ));
    text.push_str(&comment(&format!("Install: {install}.")));
    text.push_str("# Written by:\n");
    line(
        &mut text,
        format_args!(
            "#   ringway-tune render --profile {profile} --shards {} --sessions-max {} --backlog {} \\\n\
             #     --listen-port {} --congestion {congestion}",
            target.shards, target.sessions_max, target.backlog, target.listen_port
        ),
    );
    text
}

/// Returns the comment above a setting: reason, then unit, rule, source and first version.
fn explanation(setting: &Setting) -> String {
    let Setting {
        unit,
        reason,
        source,
        since,
        rule,
        value,
        is_comment_because,
        ..
    } = setting;
    let mut text = comment(reason);
    let since = match since.as_bytes().first() {
        Some(first) if first.is_ascii_digit() => format!("Linux {since}"),
        _ => since.clone(),
    };
    text.push_str(&comment(&format!(
        "Needed: {} {value}. Unit: {unit}. Source: {source}. Since: {since}.",
        rule.label()
    )));
    if let Some(why) = is_comment_because {
        text.push_str(&comment(why));
    }
    text
}

/// Returns a text as lines of comment.
fn comment(text: &str) -> String {
    let (mut lines, mut width) = (String::new(), 0);
    for word in text.split_whitespace() {
        if width == 0 || width + 1 + word.len() > COMMENT_COLUMNS {
            lines.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        lines.push(' ');
        lines.push_str(word);
        width += 1 + word.len();
    }
    lines.push('\n');
    lines
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    text.push_str(&content.to_string());
    text.push('\n');
}

/// Where systemd looks for kernel settings. Source: sysctl.d(5).
pub(crate) const SYSCTL_FILE: &str = "/etc/sysctl.d/60-ringway.conf";

/// Columns of a comment: what a terminal beside a browser shows.
const COMMENT_COLUMNS: usize = 100;

#[cfg(test)]
mod tests;
