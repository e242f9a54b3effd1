//! How commands that write end when somebody does not let them: by a signal at any moment, and with an output that nobody
//! takes. What was begun is whole, what was done is said, and the exit code is true.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use support::hold::{Hold, SIGNALS};
use support::{Call, Cluster, Fate, Interceptor, Output, Running, plugin};

use crate::interruption::{CHANGES, Change, FILE, Stage};

/// How soon a command has to end once nothing is under way.
const A_MOMENT: Duration = Duration::from_secs(5);

fn start(stage: &Stage<'_>, front: &Interceptor, judge: impl Fn(&Call) -> Fate + Send + Sync + 'static) -> Result<Held> {
    let interceptor = front.beside(judge)?;
    let session = plugin("mesh-tag")?.through(&interceptor)?;
    let running = session.start_file(FILE, stage.line(stage.change.command))?;
    Ok(Held { running, _session: session, _interceptor: interceptor })
}

/// A command before an interceptor that keeps one of its requests.
struct Held {
    running: Running,
    _session: support::Session,
    _interceptor: Interceptor,
}

impl Held {
    /// Its end, which has to come in a moment.
    fn ends_at_once(self) -> Result<Output> {
        let begun = Instant::now();
        let output = self.running.finish()?;
        ensure!(begun.elapsed() < A_MOMENT, "it ended after {:?}: {}", begun.elapsed(), output.transcript());
        Ok(output)
    }
}

/// The commands, each on a stage of its own.
fn each(test: impl Fn(&Stage<'_>, &Interceptor) -> Result<()>) -> Result<()> {
    let cluster = Cluster::shared()?;
    let front = Interceptor::before(cluster, |_| Fate::Pass)?;
    for change in &CHANGES {
        let stage = Stage::beside_others(cluster, change)?;
        test(&stage, &front).with_context(|| change.command.join(" "))?;
        stage.clear()?;
    }
    Ok(())
}

fn completes(stage: &Stage<'_>, before: &Output) -> Result<()> {
    let again = stage.run(stage.change.command)?;
    let is_gone = stage.change.tag[1].is_none() && again.stderr.contains("there is no tag");
    ensure!(again.code == Some(0) || is_gone, "{}\nand then {}", before.transcript(), again.transcript());
    stage.is(1).with_context(|| before.transcript())
}

// The objects of a tag are one change: a tag that points to two revisions is worse than the old one and the new one.
#[test]
fn a_signal_at_any_write_ends_a_command_after_what_is_only_right_together_and_says_so() -> Result<()> {
    each(|stage, front| {
        for number in 0.. {
            stage.reset()?;
            let hold = Hold::default();
            let mut held = start(stage, front, hold.at_write(number))?;
            if !hold.has_come(&mut held.running)? {
                ensure!(number > 0, "it writes nothing");
                return Ok(());
            }
            held.running.signal(SIGNALS[number % SIGNALS.len()])?;
            thread::sleep(Duration::from_millis(200));
            ensure!(!held.running.has_ended()?, "write {number} was cut: {}", held.running.stderr());
            hold.let_go();
            let output = held.ends_at_once()?;
            let told = || format!("write {number}: {}", output.transcript());
            ensure!(output.code == Some(130), "{}", told());
            ensure!(output.stderr.contains("interrupted: "), "{}", told());
            if is_of_a_tag(stage.change) {
                stage.is(1).with_context(told)?;
                ensure!(output.stderr.contains("in all its objects"), "{}", told());
            } else {
                ensure!(hold.writes() == number + 1, "{} writes: {}", hold.writes(), told());
            }
            completes(stage, &output)?;
        }
        Ok(())
    })
}

#[test]
fn a_signal_while_nobody_answers_ends_a_command_at_once() -> Result<()> {
    each(|stage, front| {
        for (round, number) in [0, 3, 5, 8, 11, 14, 17].into_iter().enumerate() {
            stage.reset()?;
            let hold = Hold::default();
            let mut held = start(stage, front, hold.silent_at_read(number))?;
            if !hold.has_come(&mut held.running)? {
                return Ok(());
            }
            held.running.signal(SIGNALS[round % SIGNALS.len()])?;
            let output = held.ends_at_once()?;
            ensure!(output.code == Some(130), "read {number}: {}", output.transcript());
            if hold.writes() == 0 {
                ensure!(output.stderr.ends_with("interrupted: nothing was changed\n"), "read {number}: {}", output.transcript());
                stage.is(0)?;
            }
            completes(stage, &output)?;
        }
        Ok(())
    })
}

/// Whether it writes the objects of a tag, and not labels of namespaces one by one.
fn is_of_a_tag(change: &Change) -> bool {
    change.tag[0] != change.tag[1]
}

/// A move of a tag, which writes several objects.
fn a_move() -> &'static Change {
    &CHANGES[1]
}

#[test]
fn a_second_signal_ends_a_command_in_the_middle_of_a_write() -> Result<()> {
    let cluster = Cluster::shared()?;
    let front = Interceptor::before(cluster, |_| Fate::Pass)?;
    let stage = Stage::beside_others(cluster, a_move())?;
    stage.reset()?;
    let hold = Hold::default();
    let mut held = start(&stage, &front, hold.at_write(0))?;
    ensure!(hold.has_come(&mut held.running)?, "it writes nothing");
    held.running.signal(libc::SIGTERM)?;
    thread::sleep(Duration::from_millis(200));
    held.running.signal(libc::SIGINT)?;
    let output = held.ends_at_once()?;
    ensure!(output.code == Some(130), "{}", output.transcript());
    hold.let_go();
    completes(&stage, &output)?;
    stage.clear()
}

#[test]
fn a_second_signal_between_the_objects_of_a_tag_says_that_it_is_split_and_what_repairs_it() -> Result<()> {
    let cluster = Cluster::shared()?;
    let front = Interceptor::before(cluster, |_| Fate::Pass)?;
    let stage = Stage::beside_others(cluster, a_move())?;
    stage.reset()?;
    let hold = Hold::default();
    let mut held = start(&stage, &front, hold.at_write(1))?;
    ensure!(hold.has_come(&mut held.running)?, "it writes one object");
    held.running.signal(libc::SIGINT)?;
    thread::sleep(Duration::from_millis(200));
    held.running.signal(libc::SIGINT)?;
    let output = held.ends_at_once()?;
    ensure!(output.code == Some(130), "{}", output.transcript());
    let tag = stage.line(&["TAG"]).concat();
    for told in [format!("so that tag {tag} is split"), format!("kubectl mesh-tag set {tag} --revision 1-28-2 --overwrite")] {
        ensure!(output.stderr.contains(&told), "no {told:?}: {}", output.transcript());
    }
    hold.let_go();
    completes(&stage, &output)?;
    stage.clear()
}

#[test]
fn what_is_put_back_is_put_back_whole_despite_a_signal() -> Result<()> {
    let cluster = Cluster::shared()?;
    let front = Interceptor::before(cluster, |_| Fate::Pass)?;
    let stage = Stage::beside_others(cluster, a_move())?;
    stage.reset()?;
    let hold = Hold::default();
    // The second write is forbidden; the third one puts the first one back.
    let mut held =
        start(&stage, &front, hold.at_write_after(2, |number| if number == 1 { Fate::Status(403) } else { Fate::Pass }))?;
    ensure!(hold.has_come(&mut held.running)?, "it puts nothing back: {}", held.running.stderr());
    held.running.signal(libc::SIGINT)?;
    thread::sleep(Duration::from_millis(200));
    hold.let_go();
    let output = held.ends_at_once()?;
    ensure!(matches!(output.code, Some(4 | 130)), "{}", output.transcript());
    stage.is(0).with_context(|| output.transcript())?;
    stage.clear()
}

#[test]
fn a_hang_up_is_ignored_under_nohup() -> Result<()> {
    let cluster = Cluster::shared()?;
    let front = Interceptor::before(cluster, |_| Fate::Pass)?;
    let stage = Stage::beside_others(cluster, a_move())?;
    stage.reset()?;
    let hold = Hold::default();
    let interceptor = front.beside(hold.at_write(0))?;
    let session = plugin("mesh-tag")?.through(&interceptor)?;
    let words = std::iter::once(FILE.to_owned()).chain(stage.line(stage.change.command));
    let mut running = session.start_file("nohup", words)?;
    ensure!(hold.has_come(&mut running)?, "it writes nothing: {}", running.stderr());
    running.signal(libc::SIGHUP)?;
    thread::sleep(Duration::from_millis(200));
    hold.let_go();
    let output = running.finish()?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    stage.is(1)?;
    stage.clear()
}

#[test]
fn whoever_only_reads_ends_at_once_by_any_signal() -> Result<()> {
    let cluster = Cluster::shared()?;
    let front = Interceptor::before(cluster, |_| Fate::Pass)?;
    for (signal, words) in
        SIGNALS.into_iter().zip([&["list"][..], &["describe", "1-26-0"], &["set", "x", "--revision", "1-28-2"]])
    {
        let hold = Hold::default();
        let interceptor = front.beside(hold.silent_at_read(2))?;
        let session = plugin("mesh-tag")?.through(&interceptor)?;
        let mut running = session.start_file(FILE, words)?;
        ensure!(hold.has_come(&mut running)?, "it reads less: {}", running.stderr());
        running.signal(signal)?;
        let begun = Instant::now();
        let output = running.finish()?;
        ensure!(output.code == Some(130) && begun.elapsed() < A_MOMENT, "{}", output.transcript());
    }
    Ok(())
}

/// Outputs that fail, and whether a command can say on the other stream what it could not report.
const OUTPUTS: [(&str, bool); 6] = [
    ("2> >(head -n 1 > /dev/null)", true),
    ("2> /dev/full", true),
    (">&- 2>&-", false),
    ("> /dev/full 2>&1", false),
    ("2> >(true)", true),
    ("2>&1 | head -n 1", false),
];

#[test]
fn an_output_that_fails_stops_no_command_half_way() -> Result<()> {
    each(|stage, _| {
        let cluster = Cluster::shared()?;
        let session = plugin("mesh-tag")?.on(cluster);
        for (output, is_said) in OUTPUTS {
            stage.reset()?;
            let words = stage.line(stage.change.command).join(" ");
            let ended = session.shell(&format!("{FILE} {words} {output}"))?;
            let told = || format!("{output}: {}", ended.transcript());
            // Whether a pipe breaks before the last line is a matter of chance, and closed streams take everything.
            ensure!(matches!(ended.code, Some(0 | 5)), "{}", told());
            ensure!(ended.code == Some(5) || !output.contains("/dev/full") || is_quiet(stage, output), "{}", told());
            if ended.code == Some(5) && is_said {
                ensure!(ended.stdout.contains("could not be reported") && ended.stdout.contains("done: "), "{}", told());
            }
            stage.is(1).with_context(told)?;
        }
        Ok(())
    })
}

/// `attach` and `detach` say what they do on stdout, and on stderr only what changes with it.
fn is_quiet(stage: &Stage<'_>, output: &str) -> bool {
    stage.change.tag[0] == stage.change.tag[1] && output == "2> /dev/full"
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error_for_whoever_only_reads_and_a_full_disk_is() -> Result<()> {
    let session = plugin("mesh-tag")?.on(Cluster::shared()?);
    for words in ["list", "set some-tag --revision 1-28-2 --dry-run", "generate some-tag --revision 1-28-2"] {
        let closed = session.shell(&format!("{FILE} {words} > >(true); sleep 0.1"))?;
        ensure!(closed.code == Some(0), "{}", closed.transcript());
        let full = session.shell(&format!("{FILE} {words} > /dev/full"))?;
        ensure!(full.code == Some(1), "{}", full.transcript());
        ensure!(full.stderr.contains("No space left on device"), "{}", full.transcript());
    }
    Ok(())
}
