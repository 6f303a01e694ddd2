//! Settings that do not go together.
//!
//! Here: what two numbers or two settings may not say at once. Not here: bounds of one number.

use super::{Kind, Rule, Setting, Surface};
use crate::check::{Target, nofile_needed};
use crate::parse;

/// Returns every contradiction, each with what was expected.
pub(super) fn problems(settings: &[Setting], target: &Target, surface: Surface) -> Vec<String> {
    let mut problems: Vec<String> = settings.iter().filter_map(order).collect();
    problems.extend(files(settings, surface));
    problems.extend(shortfall(settings, target));
    problems
}

/// Numbers of one setting that must rise.
fn order(setting: &Setting) -> Option<String> {
    let what = match setting.name.as_str() {
        "net.ipv4.ip_local_port_range" => "first and last port",
        "net.ipv4.tcp_mem" => "fine, pressure and end",
        "net.ipv4.tcp_rmem" | "net.ipv4.tcp_wmem" => "least, first and most bytes",
        _ => return None,
    };
    let numbers: Vec<i64> = setting
        .value
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    (!numbers.is_sorted()).then(|| {
        format!(
            "{}: {}: expected {what}, none smaller than the one before it",
            setting.name, setting.value
        )
    })
}

/// A limit of open files beyond what the kernel allows any process: the unit would not start.
fn files(settings: &[Setting], surface: Surface) -> Option<String> {
    let number = |kind, name: &str| {
        let is_it = |setting: &&Setting| setting.kind == kind && setting.name == name;
        parse::number::<u64>(&settings.iter().find(is_it)?.value)
    };
    let limit = number(Kind::Limit, "nofile")?;
    let most = match (number(Kind::Sysctl, "fs.nr_open"), surface) {
        (Some(most), _) => most,
        // Where the profile does not set it, the kernel's own is what there is.
        (None, Surface::Host) => NR_OPEN_DEFAULT,
        // It is the host's, and which host that will be is not known.
        (None, Surface::Container) => return None,
    };
    (limit > most).then(|| {
        format!("nofile: {limit} is beyond fs.nr_open, which is {most}: expected fs.nr_open of at least {limit}")
    })
}

/// A limit under what the target needs.
fn shortfall(settings: &[Setting], target: &Target) -> Option<String> {
    let needed = nofile_needed(target);
    let is_limit =
        |setting: &&Setting| setting.kind == Kind::Limit && setting.rule == Rule::Exactly;
    let limit: u64 = parse::number(&settings.iter().find(is_limit)?.value)?;
    (limit < needed).then(|| {
        format!("nofile: {limit} is less than the {needed} files that the target needs: expected \"{{files}}\"")
    })
}

/// `fs.nr_open` of a kernel that nobody has told otherwise. Source: `proc_sys_fs(5)`.
const NR_OPEN_DEFAULT: u64 = 1_048_576;
