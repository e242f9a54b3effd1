//! The benchmark: `tests/bench/run` builds the release binary and runs this.

mod load;
mod measure;
mod tags;
mod upgrade;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use measure::{Figures, median};
use support::{Cluster, Options, Program, say};

/// The check that Azure documents, over all namespaces (the Istio add-on's upgrade page).
const PIPELINE: &str = r#"kubectl get pods --all-namespaces -o jsonpath='{range .items[*]}{"\n"}{.metadata.name}{":\t"}{range .spec.containers[*]}{.image}{", "}{end}{end}' | sort | grep "mcr.microsoft.com/oss/istio/proxyv2\|istio/proxyv2""#;

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some("measure") {
        return end(measure::start_and_tell(env::args_os().skip(2)));
    }
    let is_of = |what: &str| env::args().any(|word| word == what);
    let words: Vec<usize> = env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let Some((runs, counts)) = words.split_first() else {
        say(format_args!("usage: bench RUNS [tags|upgrade|restart] NUMBER …; see tests/bench/run --help"));
        return ExitCode::from(2);
    };
    end(counts.iter().try_for_each(|number| match () {
        () if is_of("tags") => tags::bench(*runs, *number),
        () if is_of("upgrade") => upgrade::look(*runs, *number),
        () if is_of("restart") => upgrade::restart(*number),
        () => bench(*runs, *number),
    }))
}

fn end(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The release build of a plugin, by its file's name.
fn plugin(file: &str) -> PathBuf {
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    target.join("release").join(file)
}

fn bench(runs: usize, pods: usize) -> Result<()> {
    say(format_args!("a cluster of {pods} pods"));
    let cluster = Cluster::start(&Options::default())?;
    load::install(&cluster)?;
    // Half of the namespaces follow the revision that injected the pods, half the newer one.
    let follows = |number: usize| if number.is_multiple_of(2) { "1-26-0" } else { "1-28-2" }.to_owned();
    let load = load::fill(&cluster, pods, 10, follows)?;
    say(format_args!("{pods} pods; measuring, {runs} runs of each"));
    let environment = |command: &mut Command| {
        command.env("KUBECONFIG", cluster.kubeconfig_file());
    };
    let ours = |arguments: &[&str]| {
        let mut command = Command::new(plugin("kubectl-mesh_proxyver"));
        command.args(arguments);
        environment(&mut command);
        command
    };
    let kubectl = Program::Kubectl.path()?;
    let folder = kubectl.parent().context("kubectl is in a folder")?.display().to_string();
    let path = format!("{folder}:{}", env::var("PATH").unwrap_or_default());
    let shell = |script: &str| {
        let mut command = Command::new("bash");
        command.args(["-c", script]).env("PATH", &path);
        environment(&mut command);
        command
    };
    let file = cluster.folder().join("pods.json");
    let mut rows: Vec<(&str, Vec<Figures>)> =
        ["mesh-proxyver -A", "mesh-proxyver -A -o json", "floor: the same pages by curl", "kubectl get pods | sort | grep"]
            .map(|name| (name, Vec::new()))
            .to_vec();
    for run in 0..=runs {
        // In turn, so that a slow moment of the machine falls on all of them. The first round only warms up.
        let pages = load::pages(&cluster, "")?;
        let config = cluster.folder().join("curl");
        fs::write(&config, load::curl_config(&cluster, &pages, load::PROTOBUF))?;
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--config"]).arg(&config);
        let figures =
            [measure::measure(&curl)?, measure::measure(&ours(&["-A"]))?, measure::measure(&ours(&["-A", "-o", "json"]))?];
        // The pipeline takes so long that three runs must do, and so much memory that more pods do not fit.
        let pipeline = (run <= 3 && pods <= 10_000).then(|| measure::measure(&shell(PIPELINE))).transpose()?;
        if run > 0 {
            rows[2].1.push(figures[0]);
            rows[0].1.push(figures[1]);
            rows[1].1.push(figures[2]);
            rows[3].1.extend(pipeline);
        }
    }
    if pods == 10_000 {
        let kinds = "pods,namespaces,services,endpointslices,configmaps,deployments,statefulsets,daemonsets,mutatingwebhookconfigurations";
        let written = shell(&format!("kubectl get {kinds} -A -o json > {}", file.display())).status()?;
        anyhow::ensure!(written.success(), "kubectl get {kinds} ended with {written}");
        let path = file.to_str().context("a path in UTF-8")?;
        let figures = (0..runs).map(|_| measure::measure(&ours(&["-f", path]))).collect::<Result<Vec<_>>>()?;
        rows.push(("mesh-proxyver -f, of kubectl's JSON", figures));
    }
    let floor = median(&rows[2].1, |figures| figures.wall);
    let mut out = io::stdout().lock();
    let size =
        if file.exists() { format!("; the file has {} MB", fs::metadata(&file)?.len() / 1_000_000) } else { String::new() };
    writeln!(out, "\n{pods} pods in {} Deployments{size}\n", load.deployments)?;
    table(&mut out, &rows, floor)?;
    load.release();
    Ok(())
}

/// The medians of the runs, a row a command, and how they stand to the floor.
fn table(out: &mut impl Write, rows: &[(&str, Vec<Figures>)], floor: f64) -> Result<()> {
    writeln!(out, "| command | wall s | CPU s | peak MB | wall / floor |\n|---|---|---|---|---|")?;
    for (name, figures) in rows.iter().filter(|(_, figures)| !figures.is_empty()) {
        let [wall, cpu] = [median(figures, |figures| figures.wall), median(figures, |figures| figures.cpu)];
        let memory = median(figures, |figures| figures.memory);
        let ratio = wall / floor;
        writeln!(out, "| {name} | {wall:.3} | {cpu:.3} | {memory:.1} | {ratio:.2} |")?;
    }
    Ok(())
}
