//! A group of a scenario: peers or connections that do the same.
//!
//! Here: its keys, and the plan that they make. Not here: phases and asserts (`scenarios::file`).

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;
use serde::de::{Deserializer, IntoDeserializer};
use toml::Table;

use super::file::kinds;
use crate::plan::{
    Arrivals, Churn, DialectName, DmsgPlan, End, KillPhase, Mode, OpensTo, Pace, Payload, Plan,
    PortChoice, RelayAddress, Scenario, Shape, Slow, Storm, Target,
};
use crate::sources::{Source, Sources};

/// A group.
#[derive(Debug, Clone)]
pub struct GroupFile {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// Whom it loads.
    pub target: TargetName,
    /// Relay that the accepting half of its sessions stands at, if it is another one.
    pub far: Option<TargetName>,
    /// Phases that it is there in, in their order; all if absent.
    pub phases: Option<Vec<String>>,
    /// Dialect that it speaks, if the file says so: its relay is then the one of that number among those of
    /// the dialect.
    pub dialect: Option<DialectName>,
    /// Its other keys.
    keys: Keys,
}

/// What a group does: the name of a subcommand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The run.
    pub scenario: Scenario,
    /// Whether it speaks to any TCP server, and never to a relay.
    pub is_plain: bool,
}

impl Kind {
    /// All of them by name.
    pub(super) const ALL: [(&'static str, Self); 12] = [
        ("churn", Self::relay(Scenario::Churn)),
        ("connects", Self::plain(Scenario::Handshakes)),
        ("evict", Self::relay(Scenario::Evict)),
        ("handshakes", Self::relay(Scenario::Handshakes)),
        ("idle", Self::relay(Scenario::Idle)),
        ("opens", Self::relay(Scenario::Opens)),
        ("plain", Self::plain(Scenario::Plain)),
        ("setups", Self::relay(Scenario::Setups)),
        ("slow-reader", Self::relay(Scenario::SlowReader)),
        ("slowloris", Self::relay(Scenario::Slowloris)),
        ("steady", Self::relay(Scenario::Steady)),
        ("storm", Self::relay(Scenario::Storm)),
    ];

    const fn relay(scenario: Scenario) -> Self {
        let is_plain = false;
        Self { scenario, is_plain }
    }

    const fn plain(scenario: Scenario) -> Self {
        let is_plain = true;
        Self { scenario, is_plain }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, kind)| *kind == self);
        found.map_or("", |(name, _)| name)
    }
}

/// One of the targets that a scenario is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetName {
    /// Any TCP server instead of a relay.
    pub is_tcp: bool,
    /// Which of several, from 1.
    pub number: usize,
}

/// Where the load goes: what the command line names, or what was started for the scenario.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// Relays; one that speaks two dialects is there twice.
    pub relays: Vec<RelayAddress>,
    /// The first relay in its other dialect, if it is known to be the same one.
    pub twin: Option<RelayAddress>,
    /// Any TCP servers.
    pub tcp: Vec<SocketAddr>,
    /// Process that is measured.
    pub pid: Option<u32>,
    /// Where the relay tells its state.
    pub admin: Option<SocketAddr>,
}

impl Targets {
    /// Returns whether a target is the relay whose process and state are known.
    pub(super) fn is_first(&self, target: &Target) -> bool {
        let first = self.relays.first().into_iter().chain(&self.twin);
        let mut first = first.map(|relay| Target::Relay(*relay));
        first.any(|relay| relay == *target)
    }

    fn relay(&self, name: TargetName, dialect: Option<DialectName>) -> Option<RelayAddress> {
        let is_it = |relay: &&RelayAddress| dialect.is_none() || relay.dialect() == dialect;
        let mut relays = self.relays.iter().filter(is_it);
        relays.nth(name.number.checked_sub(1)?).copied()
    }

    fn find(&self, name: TargetName, dialect: Option<DialectName>) -> Option<Target> {
        if name.is_tcp {
            let socket = self.tcp.get(name.number.checked_sub(1)?);
            return socket.map(|socket| Target::Tcp(*socket));
        }
        self.relay(name, dialect).map(Target::Relay)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    name: String,
    run: String,
    phases: Option<Vec<String>>,
    target: Option<String>,
    #[serde(default, deserialize_with = "word")]
    dialect: Option<DialectName>,
    sessions: Option<u32>,
    streams: Option<u32>,
    #[serde(default, deserialize_with = "word")]
    mode: Option<Mode>,
    message_size: Option<u32>,
    in_flight: Option<u32>,
    #[serde(default, deserialize_with = "word")]
    payload: Option<Payload>,
    verify: Option<bool>,
    window: Option<u32>,
    rate: Option<RateText>,
    #[serde(default, deserialize_with = "word")]
    arrivals: Option<Arrivals>,
    concurrency: Option<u32>,
    threads: Option<u32>,
    processes: Option<u32>,
    cpus: Option<Vec<u32>>,
    sources: Option<Vec<String>>,
    ports: Option<String>,
    #[serde(default, deserialize_with = "word")]
    port_choice: Option<PortChoice>,
    #[serde(default, deserialize_with = "word")]
    end: Option<End>,
    rounds: Option<u32>,
    #[serde(default, deserialize_with = "words")]
    kill: Option<Vec<KillPhase>>,
    slow: Option<u32>,
    slow_streams: Option<u32>,
    windows: Option<u32>,
    mute: Option<bool>,
    far: Option<String>,
    spread: Option<String>,
    every: Option<String>,
    hops: Option<u32>,
    #[serde(default, deserialize_with = "word")]
    to: Option<OpensTo>,
    ping_after: Option<String>,
    patience: Option<String>,
    expects: Option<Vec<String>>,
}

/// A rate as a number or as the text of a shape.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum RateText {
    Number(u64),
    Text(String),
}

/// Keys that only groups with a relay have.
const DIALECT_KEYS: [&str; 3] = ["dialect", "patience", "ping_after"];

/// Keys that only some kinds have.
const KEYS: [(&str, &[Scenario]); 22] = {
    use Scenario::{
        Churn, Evict, Handshakes, Idle, Opens, Plain, Setups, SlowReader, Slowloris, Steady, Storm,
    };
    const PACED: &[Scenario] = &[Churn, Evict, Handshakes, Opens, Plain, Setups, Steady];
    const STANDING: &[Scenario] = &[
        Evict, Idle, Opens, Plain, Setups, SlowReader, Slowloris, Steady, Storm,
    ];
    [
        ("sessions", STANDING),
        ("streams", &[Steady]),
        ("mode", &[Plain, Steady]),
        ("message_size", &[Plain, SlowReader, Steady]),
        ("in_flight", &[Plain, Steady]),
        ("payload", &[Opens, Steady]),
        ("verify", &[Plain, Steady]),
        ("window", &[SlowReader, Steady]),
        ("rate", PACED),
        ("arrivals", PACED),
        ("end", &[Churn, Handshakes]),
        ("rounds", &[Churn]),
        ("kill", &[Churn]),
        ("slow", &[SlowReader]),
        ("slow_streams", &[SlowReader]),
        ("windows", &[SlowReader]),
        ("mute", &[Idle]),
        ("far", &[Steady]),
        ("spread", &[Storm]),
        ("every", &[Storm]),
        ("hops", &[Setups]),
        ("to", &[Opens]),
    ]
};

impl GroupFile {
    /// Reads a group of a file whose groups speak `dialect` unless they say something else.
    pub(super) fn read(table: Table, dialect: Option<DialectName>) -> Result<Self, String> {
        let name = table.get("name").and_then(toml::Value::as_str);
        let name = name.unwrap_or("?").to_owned();
        let with_name = |why: String| format!("group '{name}': {why}");
        let given: Vec<String> = table.keys().cloned().collect();
        let keys: Keys = table
            .try_into()
            .map_err(|error: toml::de::Error| with_name(error.message().to_owned()))?;
        let kind = Kind::ALL.iter().find(|(name, _)| *name == keys.run);
        let kind = kind
            .map(|(_, kind)| *kind)
            .ok_or_else(|| with_name(format!("run = '{}' is none of {}", keys.run, kinds())))?;
        for (key, kinds) in KEYS {
            if given.iter().any(|given| given == key) && !kinds.contains(&kind.scenario) {
                let why = format!("'{key}' means nothing to '{}'", kind.name());
                return Err(with_name(why));
            }
        }
        let to = target(keys.target.as_deref(), kind).map_err(with_name)?;
        if to.is_tcp
            && let Some(key) = DIALECT_KEYS
                .into_iter()
                .find(|key| given.iter().any(|given| given == key))
        {
            let why = format!("'{key}' means nothing to plain connections");
            return Err(with_name(why));
        }
        let far = keys.far.as_deref().map(|far| target(Some(far), kind));
        let far = far.transpose().map_err(with_name)?;
        Ok(Self {
            far,
            name: keys.name.clone(),
            kind,
            target: to,
            phases: keys.phases.clone(),
            dialect: keys.dialect.or(dialect).filter(|_| !to.is_tcp),
            keys,
        })
    }

    /// Returns whether something is said about failures, so that they are not all bad.
    #[must_use]
    pub fn expects(&self) -> &[String] {
        self.keys.expects.as_deref().unwrap_or_default()
    }

    /// Returns the plan of the group, for `time` in all.
    ///
    /// # Errors
    /// A sentence when a value cannot be read or a target is missing.
    pub fn plan(
        &self,
        targets: &Targets,
        seed: u64,
        warmup: Duration,
        time: Duration,
    ) -> Result<Plan, String> {
        let keys = &self.keys;
        let with_name = |why: String| format!("group '{}': {why}", self.name);
        let target = targets.find(self.target, self.dialect);
        let target = target.ok_or_else(|| with_name(missing(self.target, self.dialect)))?;
        let mut plan = Plan::new(self.kind.scenario, target);
        plan.seed = seed;
        plan.warmup = warmup;
        plan.duration = time;
        plan.relay_pid = targets.pid;
        plan.admin = targets.admin;
        plan.tells_intervals = true;
        plan.dialect_named = self.dialect;
        plan.expects = self.expects().to_vec();

        plan.placement.processes = keys.processes.unwrap_or(1);
        let each = keys.threads.unwrap_or(1);
        plan.placement.threads = each.saturating_mul(plan.placement.processes);
        plan.placement.cpus = keys.cpus.clone().unwrap_or_default();
        plan.concurrency = keys.concurrency.unwrap_or(64);
        plan.sessions = match self.kind.scenario {
            Scenario::Handshakes => plan.concurrency,
            Scenario::Churn => plan.concurrency.saturating_mul(plan.placement.threads),
            _ => keys.sessions.unwrap_or(16),
        };
        plan.concurrency = match self.kind.scenario {
            Scenario::Storm => keys.concurrency.unwrap_or(plan.sessions),
            _ => plan.concurrency,
        };
        plan.streams = keys.streams.unwrap_or(1);
        self.add_traffic(&mut plan);
        self.add_sources(&mut plan).map_err(with_name)?;
        self.add_pace(&mut plan).map_err(with_name)?;
        self.add_special(&mut plan).map_err(with_name)?;
        if let Some(far) = self.far {
            let relay = targets.relay(far, self.dialect);
            plan.far = Some(relay.ok_or_else(|| with_name(missing(far, self.dialect)))?);
        }
        // The books are compared once, over all groups.
        plan.shares_relay = true;
        Ok(plan)
    }

    fn add_traffic(&self, plan: &mut Plan) {
        let keys = &self.keys;
        let traffic = &mut plan.traffic;
        traffic.mode = keys.mode.unwrap_or(match self.kind.scenario {
            Scenario::Plain | Scenario::Churn => Mode::PingPong,
            _ => Mode::Bulk,
        });
        traffic.payload = keys.payload.unwrap_or(traffic.payload);
        traffic.message_bytes = keys.message_size.unwrap_or(traffic.message_bytes);
        traffic.in_flight = keys.in_flight.unwrap_or(1);
        traffic.window_bytes = keys.window.unwrap_or(traffic.window_bytes);
        traffic.verify = keys.verify.unwrap_or(false);
    }

    fn add_sources(&self, plan: &mut Plan) -> Result<(), String> {
        let keys = &self.keys;
        let mut sources = Vec::new();
        for text in keys.sources.iter().flatten() {
            let source: Source = text.parse().map_err(|why| format!("sources: {why}"))?;
            sources.push(source);
        }
        plan.placement.sources = Sources::new(sources);
        if let Some(text) = &keys.ports {
            plan.placement.ports = Some(text.parse().map_err(|why| format!("ports: {why}"))?);
        }
        plan.placement.port_choice = keys.port_choice.unwrap_or(PortChoice::Kernel);
        Ok(())
    }

    fn add_pace(&self, plan: &mut Plan) -> Result<(), String> {
        let keys = &self.keys;
        let Some(rate) = &keys.rate else {
            return match keys.arrivals {
                None => Ok(()),
                Some(_) => Err("'arrivals' needs a 'rate'".into()),
            };
        };
        let shape: Shape = match rate {
            RateText::Number(rate) => Shape::Constant(*rate),
            RateText::Text(text) => text.parse().map_err(|why| format!("rate: {why}"))?,
        };
        plan.pace = Some(Pace {
            shape,
            arrivals: keys.arrivals.unwrap_or_default(),
        });
        Ok(())
    }

    fn add_special(&self, plan: &mut Plan) -> Result<(), String> {
        let keys = &self.keys;
        plan.churn = Churn {
            cycles: None,
            rounds: keys.rounds.unwrap_or(1),
            phases: keys.kill.clone().unwrap_or_else(|| KillPhase::ALL.to_vec()),
            end: keys.end.unwrap_or(End::Rst),
        };
        if self.kind.scenario == Scenario::SlowReader {
            plan.slow = Slow {
                pairs: keys.slow.unwrap_or(1),
                streams: keys.slow_streams.unwrap_or(3),
                windows: keys.windows.unwrap_or(4),
            };
            // Its time is that of one window.
            plan.duration /= plan.slow.windows.max(1);
        }
        plan.hops = keys.hops.unwrap_or(plan.hops);
        plan.is_mute = keys.mute.unwrap_or(false);
        let time = |name: &str, text: &Option<String>| {
            let text = text.as_deref();
            let read = |text| {
                humantime::parse_duration(text)
                    .map_err(|error| format!("{name}: '{text}' is no time: {error}"))
            };
            text.map(read).transpose()
        };
        let own = DmsgPlan::default();
        plan.dmsg = DmsgPlan {
            ping_after: time("ping_after", &keys.ping_after)?.unwrap_or(own.ping_after),
            patience: time("patience", &keys.patience)?.unwrap_or(own.patience),
        };
        plan.opens_to = keys.to.unwrap_or_default();
        plan.storm = Storm {
            spread: time("spread", &keys.spread)?.unwrap_or(Duration::ZERO),
            every: time("every", &keys.every)?,
        };
        Ok(())
    }
}

/// Returns what is missing.
fn missing(name: TargetName, dialect: Option<DialectName>) -> String {
    let flag = if name.is_tcp { "--tcp" } else { "--relay" };
    let number = name.number;
    let dialect = dialect.map_or_else(String::new, |dialect| {
        format!(" of the {} dialect", dialect.name())
    });
    format!(
        "it loads target {number}{dialect} of {flag}, which is not given: name it, or take --start"
    )
}

/// Reads a word of the command line.
pub(super) fn word<'de, D: Deserializer<'de>, T: ValueEnum>(
    from: D,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(from)?;
    T::from_str(&text, false).map(Some).map_err(|_| {
        let values = T::value_variants().iter().filter_map(T::to_possible_value);
        let names: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
        serde::de::Error::custom(format!("'{text}' is none of {}", names.join(", ")))
    })
}

/// Reads several of them.
fn words<'de, D: Deserializer<'de>, T: ValueEnum>(from: D) -> Result<Option<Vec<T>>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let read = |text: String| word(text.into_deserializer());
    let words: Result<Vec<Option<T>>, D::Error> = texts.into_iter().map(read).collect();
    words.map(|words| words.into_iter().collect())
}

/// Reads `relay`, `tcp`, `relay 2`.
fn target(text: Option<&str>, kind: Kind) -> Result<TargetName, String> {
    let default = if kind.is_plain { "tcp" } else { "relay" };
    let text = text.unwrap_or(default);
    let (word, number) = text.split_once(' ').unwrap_or((text, "1"));
    let number = number.parse().ok().filter(|number| *number >= 1);
    let (true, Some(number)) = (matches!(word, "relay" | "tcp"), number) else {
        return Err(format!(
            "target = '{text}': 'relay', 'tcp', or one of several, as 'tcp 2'"
        ));
    };
    let is_tcp = word == "tcp";
    let takes_both = matches!(kind.scenario, Scenario::Idle | Scenario::Storm);
    if is_tcp != kind.is_plain && !takes_both {
        return Err(format!("'{}' does not go to a {word} target", kind.name()));
    }
    Ok(TargetName { is_tcp, number })
}
