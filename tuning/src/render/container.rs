//! The forms in which containers are given settings.
//!
//! Here: arguments of docker, a fragment for compose, one for a pod. Not here: the host's files.

use super::{RenderedFile, explanation, head, line, of_kind};
use crate::profile::{Kind, Setting, Tuning};

/// Returns the files of a container's profile.
pub(super) fn files(tuning: &Tuning) -> Vec<RenderedFile> {
    let file = |path, mode, text| RenderedFile {
        path,
        installed: None,
        mode,
        text,
    };
    vec![
        file("container/docker-run.sh", 0o755, docker(tuning)),
        file("container/compose.yaml", 0o644, compose(tuning)),
        file("container/pod.yaml", 0o644, pod(tuning)),
    ]
}

/// A script that adds the settings to what else `docker run` is told.
fn docker(tuning: &Tuning) -> String {
    let mut text = "#!/bin/sh\n".to_owned();
    text.push_str(&head(
        tuning,
        "Settings of the network namespace",
        "run it with what `docker run` (or podman, in $DOCKER) is to be told besides: docker-run.sh --name relay IMAGE",
    ));
    text.push_str("set -eu\n");
    for setting in of_kind(tuning, Kind::Sysctl) {
        let Setting { name, value, .. } = setting;
        text.push('\n');
        text.push_str(&explanation(setting));
        line(
            &mut text,
            format_args!("{}set -- --sysctl '{name}={value}' \"$@\"", mark(setting)),
        );
    }
    for setting in of_kind(tuning, Kind::Limit) {
        let Setting { name, value, .. } = setting;
        text.push('\n');
        text.push_str(&explanation(setting));
        line(
            &mut text,
            format_args!("set -- --ulimit '{name}={value}:{value}' \"$@\""),
        );
    }
    text.push_str("\nexec \"${DOCKER:-docker}\" run \"$@\"\n");
    text
}

fn compose(tuning: &Tuning) -> String {
    let mut text = head(
        tuning,
        "Settings of the network namespace",
        "merge into the service of your compose file: docker compose -f compose.yaml -f yours.yaml up",
    );
    text.push_str("services:\n  ringway:\n    sysctls:\n");
    for setting in of_kind(tuning, Kind::Sysctl) {
        let Setting { name, value, .. } = setting;
        text.push_str(&indented(&explanation(setting), 6));
        line(
            &mut text,
            format_args!("      {}{name}: \"{value}\"", mark(setting)),
        );
    }
    text.push_str("    ulimits:\n");
    for setting in of_kind(tuning, Kind::Limit) {
        let Setting { name, value, .. } = setting;
        text.push_str(&indented(&explanation(setting), 6));
        line(&mut text, format_args!("      {name}:"));
        line(
            &mut text,
            format_args!("        soft: {value}\n        hard: {value}"),
        );
    }
    text
}

fn pod(tuning: &Tuning) -> String {
    let mut text = head(
        tuning,
        "Settings of the network namespace",
        "merge into the pod. Limits of open files are not a pod's to set: the container runtime has them",
    );
    let unsafe_names: Vec<&str> = of_kind(tuning, Kind::Sysctl)
        .filter(|setting| setting.is_comment_because.is_none())
        .map(|setting| setting.name.as_str())
        .filter(|name| !SAFE.iter().any(|(safe, _)| safe == name))
        .collect();
    if !unsafe_names.is_empty() {
        text.push_str(
            "# Kubernetes calls these unsafe; the kubelet of the node has to be started with:\n",
        );
        let names = unsafe_names.join(",");
        line(
            &mut text,
            format_args!("#   --allowed-unsafe-sysctls={names}"),
        );
    }
    text.push_str("spec:\n  securityContext:\n    sysctls:\n");
    for setting in of_kind(tuning, Kind::Sysctl) {
        let Setting { name, value, .. } = setting;
        text.push_str(&indented(&explanation(setting), 6));
        if let Some((_, since)) = SAFE.iter().find(|(safe, _)| safe == name) {
            line(&mut text, format_args!("      # Safe since {since}."));
        }
        let mark = mark(setting);
        line(&mut text, format_args!("      {mark}- name: {name}"));
        line(&mut text, format_args!("      {mark}  value: \"{value}\""));
    }
    text
}

/// What makes a comment of a line.
const fn mark(setting: &Setting) -> &'static str {
    match setting.is_comment_because {
        Some(_) => "# ",
        None => "",
    }
}

fn indented(text: &str, columns: usize) -> String {
    let lines = text.lines().map(|line| format!("{:columns$}{line}\n", ""));
    lines.collect()
}

/// Sysctls that every pod may set, and since when.
///
/// Source: Kubernetes, "Using sysctls in a Kubernetes cluster", list of safe sysctls.
const SAFE: &[(&str, &str)] = &[
    ("net.ipv4.ip_local_port_range", "every Kubernetes"),
    ("net.ipv4.ip_local_reserved_ports", "Kubernetes 1.27"),
    ("net.ipv4.tcp_fin_timeout", "Kubernetes 1.29"),
    ("net.ipv4.tcp_rmem", "Kubernetes 1.32"),
    ("net.ipv4.tcp_syncookies", "every Kubernetes"),
    ("net.ipv4.tcp_wmem", "Kubernetes 1.32"),
];
