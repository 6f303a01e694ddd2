//! Who set the limits of this process.
//!
//! Here: what its control groups and the marks of containers show, and where such a limit is raised. Not
//! here: the limits.
//!
//! Source: `systemd.resource-control(5)` for the names of groups; docker leaves `/.dockerenv`, podman
//! `/run/.containerenv`.

/// Who set the limits, as far as it shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Setter {
    /// Whoever started the container.
    Container,
    /// Most likely a login session; nothing shows who.
    #[default]
    Unknown,
    /// The unit of this name.
    Unit(String),
}

impl Setter {
    /// Returns who it is by `/proc/self/cgroup` and by whether a container has left its mark.
    pub(super) fn of(groups: &str, has_mark: bool) -> Self {
        let paths = || groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let units = |path: &str| {
            let name = path.rsplit('/').next()?;
            name.ends_with(".service").then(|| name.to_owned())
        };
        if let Some(name) = paths().find_map(units) {
            return Self::Unit(name);
        }
        let is_container = |path: &str| CONTAINERS.iter().any(|word| path.contains(word));
        match has_mark || paths().any(is_container) {
            true => Self::Container,
            false => Self::Unknown,
        }
    }

    /// Returns where the limit of open files is raised.
    pub(crate) fn files_fix(&self, needed: u64) -> String {
        match self {
            Self::Container => format!(
                "raise it: start the container with --ulimit nofile={needed}:{needed}, or give the container runtime's \
                 own unit LimitNOFILE={needed}"
            ),
            Self::Unknown => {
                format!("raise it (LimitNOFILE={needed} in the unit, deploy/limits.d elsewhere)")
            }
            Self::Unit(name) => format!(
                "raise it: `systemctl edit {name}`, LimitNOFILE={needed} below [Service], then restart the unit"
            ),
        }
    }
}

/// What paths of containers have in them.
const CONTAINERS: [&str; 5] = ["/docker/", "/docker-", "/kubepods", "/lxc", "/libpod"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_tell_units_from_containers_and_sessions() {
        let unit = |name: &str| Setter::Unit(name.to_owned());
        for (groups, has_mark, expected) in [
            (
                "0::/system.slice/ringway.service\n",
                false,
                unit("ringway.service"),
            ),
            (
                "1:name=systemd:/system.slice/ringway.service\n0::/\n",
                true,
                unit("ringway.service"),
            ),
            (
                "0::/user.slice/user-1000.slice/session-3.scope\n",
                false,
                Setter::Unknown,
            ),
            (
                "0::/system.slice/docker-4a38.scope\n",
                false,
                Setter::Container,
            ),
            (
                "0::/kubepods.slice/kubepods-pod1.slice/cri-1.scope\n",
                false,
                Setter::Container,
            ),
            (
                "0::/machine.slice/libpod-1.scope/container\n",
                false,
                Setter::Container,
            ),
            (
                include_str!("../../testdata/cgroup_v1.txt"),
                false,
                Setter::Container,
            ),
            ("0::/\n", true, Setter::Container),
            ("0::/\n", false, Setter::Unknown),
            ("", false, Setter::Unknown),
        ] {
            assert_eq!(Setter::of(groups, has_mark), expected, "{groups}");
        }
    }
}
