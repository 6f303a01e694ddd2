//! `ringway-tune plan`: what a demand takes.
//!
//! Here: the flags and their ranges. Not here: the sums (`ringway_tuning::plan`).

mod calibrate;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Subcommand;
use ringway_tuning::Host;
use ringway_tuning::plan::costs::Costs;
use ringway_tuning::plan::limits::Room;
use ringway_tuning::plan::numbers::{read_bytes, read_number, read_share};
use ringway_tuning::plan::{Demand, Plan, page, text};

use super::{complain, end, named, print_json};

/// What is planned for.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct PlanCommand {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    demand: DemandFlags,

    #[command(flatten)]
    room: RoomFlags,

    #[command(flatten)]
    output: OutputFlags,
}

/// What is done in place of a plan.
#[derive(Debug, Subcommand)]
enum Action {
    /// Measure on this host what the plan's constants are: starts relays and generators on 127.0.0.1, a
    /// minute a round
    Calibrate(calibrate::Calibrate),
    /// Compare the plan with real relays under several loads: memory and ports, predicted and measured
    Verify(calibrate::Verify),
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Demand, of all relays together")]
struct DemandFlags {
    /// Sessions that stand at a time, such as 20000, 250k or 100M
    #[arg(long, value_name = "COUNT", default_value = "10k", value_parser = sessions)]
    sessions: u64,

    /// Ends of streams that each session has open, on the average
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = streams)]
    streams: f64,

    /// Payload that peers send, Gbit/s
    #[arg(long, value_name = "GBIT", default_value = "0", value_parser = gigabits)]
    gbit: f64,

    /// Size of a message, bytes or with a unit
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = message)]
    message_size: u32,

    /// Messages of a session that come together: one wake-up of the relay serves them
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = together)]
    together: f64,

    /// Sessions that come, and as many that go, a second
    #[arg(long, value_name = "COUNT", default_value = "0", value_parser = rate)]
    connects: f64,

    /// Streams that are opened a second [default: each session that comes opens its share]
    #[arg(long, value_name = "COUNT", value_parser = rate)]
    opens: Option<f64>,

    /// Share of streams whose peers are on different relays [default: peers are on any relay]
    #[arg(long, value_name = "PERCENT", value_parser = read_share)]
    forwarded: Option<f64>,

    /// Share of peers that do not read what comes for them
    #[arg(long, value_name = "PERCENT", default_value = "0.1%", value_parser = read_share)]
    slow_readers: f64,

    /// Round trip between relay and peers, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    round_trip: u64,

    /// Seconds in which all peers of a relay come back after it has died
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    return_within: u64,

    /// Relays [default: as few as carry it]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=4_097))]
    relays: Option<u32>,

    /// Relays that may be away while the others carry everything
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    spare_relays: u32,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Host of each relay")]
struct RoomFlags {
    /// Cores for the shards [default: those of this process]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=256))]
    cores: Option<u32>,

    /// Shards of a relay [default: one for each core]; more where open files are short
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: Option<u32>,

    /// Memory [default: what is free here]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<f64>,

    /// Open files of the relay [default: the hard limit here]
    #[arg(long, value_name = "COUNT", value_parser = files)]
    open_files: Option<f64>,

    /// Network card, Gbit/s [default: not a limit]
    #[arg(long, value_name = "GBIT", value_parser = card)]
    network_gbit: Option<f64>,

    /// Share of cores, memory and network that may be used
    #[arg(long, value_name = "PERCENT", default_value = "60%", value_parser = used)]
    use_at_most: f64,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
struct OutputFlags {
    /// Constants that 'plan calibrate' has written [default: those of this host if there are any, else
    /// those that come with the program]
    #[arg(long, value_name = "FILE")]
    costs: Option<PathBuf>,

    /// Print JSON in place of tables
    #[arg(long)]
    json: bool,

    /// Write a page for browsers to this file as well: sums, and how they grow
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  ringway-tune plan --sessions 20k --gbit 1
  ringway-tune plan --sessions 1M --gbit 10 --connects 500 --cores 16 --memory 64GiB --html plan.html
  ringway-tune plan --sessions 100M --gbit 400 --cores 32 --memory 256GiB --open-files 4M \\
    --spare-relays 2

Exits with 1 when something is short, with 2 when the demand contradicts itself.";

impl PlanCommand {
    /// Makes the plan and prints it.
    pub(crate) fn run(&self) -> ExitCode {
        match &self.action {
            Some(Action::Calibrate(calibrate)) => return calibrate.run(),
            Some(Action::Verify(verify)) => return verify.run(),
            None => {}
        }
        match self.plan() {
            Err((status, text)) => {
                complain(format_args!("{text}"));
                ExitCode::from(status)
            }
            Ok(plan) => {
                let printed = self.print(&plan);
                end(printed, plan.is_short())
            }
        }
    }

    fn plan(&self) -> Result<Plan, (u8, String)> {
        let demand = self.demand.demand();
        demand.check().map_err(|text| (2, text))?;
        let costs = self.costs().map_err(|error| (1, error.to_string()))?;
        let room = self.room.room().map_err(|text| (2, text))?;
        Plan::of(demand, costs, room).map_err(|text| (1, text))
    }

    fn costs(&self) -> io::Result<Costs> {
        match &self.output.costs {
            Some(path) => Costs::read(path),
            None => Costs::of_this_host(),
        }
    }

    fn print(&self, plan: &Plan) -> io::Result<()> {
        if let Some(path) = &self.output.html {
            let page = page::page(plan).map_err(io::Error::other)?;
            fs::write(path, page).map_err(|error| named(path, &error))?;
        }
        if self.output.json {
            return print_json(plan);
        }
        let text = text::text(plan).map_err(io::Error::other)?;
        io::stdout().lock().write_all(text.as_bytes())
    }
}

impl DemandFlags {
    const fn demand(&self) -> Demand {
        Demand {
            sessions: self.sessions,
            streams: self.streams,
            bits: self.gbit * 1e9,
            message: self.message_size,
            together: self.together,
            connects: self.connects,
            opens: self.opens,
            forwarded: self.forwarded,
            slow: self.slow_readers,
            round_trip: Duration::from_millis(self.round_trip),
            returning: Duration::from_secs(self.return_within),
            relays: self.relays,
            spare: self.spare_relays,
        }
    }
}

impl RoomFlags {
    fn room(&self) -> Result<Room, String> {
        let here = Room::of_host(&Host::read());
        let cores = self.cores.or_else(|| {
            let cores = available_parallelism().ok()?;
            u32::try_from(cores.get()).ok()
        });
        let cores = cores.ok_or("the cores of this process are unknown: give --cores")?;
        Ok(Room {
            cores: f64::from(cores),
            shards: f64::from(self.shards.unwrap_or(cores)),
            memory: self
                .memory
                .or(here.memory)
                .ok_or("/proc/meminfo could not be read: give --memory")?,
            open_files: self
                .open_files
                .or(here.open_files)
                .ok_or("/proc/self/limits could not be read: give --open-files")?,
            ports: here
                .ports
                .ok_or("/proc/sys/net/ipv4/ip_local_port_range could not be read")?,
            network: self.network_gbit.map(|gigabits| gigabits * 1e9 / 8.0),
            share: self.use_at_most,
        })
    }
}

fn sessions(text: &str) -> Result<u64, String> {
    let number = read_number(text, 1.0, 1e9)?;
    whole(number).ok_or_else(|| "expected a whole number of sessions".to_owned())
}

fn message(text: &str) -> Result<u32, String> {
    let number = read_bytes(text, 1.0, 16_777_216.0)?;
    whole(number)
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| "expected a whole number of bytes".to_owned())
}

fn streams(text: &str) -> Result<f64, String> {
    read_number(text, 0.0, 65_536.0)
}

fn gigabits(text: &str) -> Result<f64, String> {
    read_number(text, 0.0, 1e6)
}

fn card(text: &str) -> Result<f64, String> {
    read_number(text, 0.001, 1e4)
}

fn together(text: &str) -> Result<f64, String> {
    read_number(text, 1.0, 1e6)
}

fn rate(text: &str) -> Result<f64, String> {
    read_number(text, 0.0, 1e8)
}

fn memory(text: &str) -> Result<f64, String> {
    read_bytes(text, 67_108_864.0, 1.1e14)
}

fn files(text: &str) -> Result<f64, String> {
    read_number(text, 1_024.0, 1.1e9)
}

fn used(text: &str) -> Result<f64, String> {
    read_share(text)
        .ok()
        .filter(|share| (0.01..=0.95).contains(share))
        .ok_or_else(|| "expected a share from 1% to 95%, such as 60%".to_owned())
}

/// Returns a number that is whole and not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked, and 2^53 is the end of what is exact"
)]
fn whole(number: f64) -> Option<u64> {
    ((0.0..=9.0e15).contains(&number) && number.fract() == 0.0).then_some(number as u64)
}
