//! `mesh-tag list` beside `istioctl tag list`, on the same cluster: twenty tags, and a namespace for every ten pods that
//! follows one of them.

use std::fs;
use std::io::{self, Write};
use std::process::Command;

use anyhow::Result;
use support::{Cluster, IstioVersion, Options, Program, say};

use crate::measure::{self, Figures, median};
use crate::{load, plugin, table};

const TAGS: usize = 20;
/// Pods that have ended follow nobody: what `mesh-tag` asks for, and so the floor too.
const QUERY: &str = "&fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";

/// Measures on a cluster of so many pods.
pub fn bench(runs: usize, pods: usize) -> Result<()> {
    say(format_args!("a cluster of {pods} pods and {TAGS} tags"));
    let cluster = Cluster::start(&Options::default())?;
    load::install(&cluster)?;
    for number in 0..TAGS {
        let revision = if number.is_multiple_of(2) { "1-26-0" } else { "1-28-2" };
        cluster.istioctl(IstioVersion::V1_28_2, ["tag", "set", &tag(number), "--revision", revision, "-y"])?;
    }
    let load = load::fill(&cluster, pods, 1, |number| tag(number % TAGS))?;
    let list = cluster.api().get("/api/v1/namespaces?labelSelector=istio.io/rev")?;
    let namespaces = list["items"].as_array().map_or(0, Vec::len);
    say(format_args!("{pods} pods; measuring, {runs} runs of each"));
    let ours = |arguments: &[&str]| {
        let mut command = Command::new(plugin("kubectl-mesh_tag"));
        command.args(arguments).env("KUBECONFIG", cluster.kubeconfig_file());
        command
    };
    let istioctl = || -> Result<Command> {
        let mut command = cluster.command(Program::Istioctl(IstioVersion::V1_28_2))?;
        command.args(["tag", "list"]);
        Ok(command)
    };
    let names = ["istioctl tag list", "mesh-tag list --no-stale", "floor: the same pods' metadata by curl", "mesh-tag list"];
    let mut rows: Vec<(&str, Vec<Figures>)> = names.map(|name| (name, Vec::new())).to_vec();
    for run in 0..=runs {
        // In turn, so that a slow moment of the machine falls on all of them. The first round only warms up.
        let config = cluster.folder().join("curl");
        fs::write(&config, load::curl_config(&cluster, &load::pages(&cluster, QUERY)?, load::METADATA))?;
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--config"]).arg(&config);
        let commands = [istioctl()?, ours(&["list", "--no-stale"]), curl, ours(&["list"])];
        for (row, command) in rows.iter_mut().zip(&commands) {
            let figures = measure::measure(command)?;
            if run > 0 {
                row.1.push(figures);
            }
        }
    }
    let wall = |row: usize| median(&rows[row].1, |figures| figures.wall);
    let mut out = io::stdout().lock();
    writeln!(out, "\n{TAGS} tags, {namespaces} namespaces that follow them, {pods} pods\n")?;
    table(&mut out, &rows, wall(2))?;
    writeln!(out, "\nwithout STALE {:.1} times as fast as istioctl", wall(0) / wall(1))?;
    load.release();
    Ok(())
}

fn tag(number: usize) -> String {
    format!("team-{number}")
}
