//! The page that a person reads: the revisions side by side, a bar for each namespace, what is left, in as many columns as
//! there are.

use std::fmt::Write;

use mesh::terminal::advisor::Advisor;
use mesh::terminal::styles::Styles;
use mesh::terminal::table::{Header, Table};
use mesh::terminal::words::{human_duration, plural};
use owo_colors::{OwoColorize, Style};

use super::certificate::{Certificates, certificates};
use super::model::{Share, Status, Why};
use crate::output::or_none;
use crate::revisions::Revision;
use crate::support::Releases;
use crate::survey::Survey;
use mesh::direction::Direction;

/// How wide a page is where nobody knows: no wider than a terminal always was.
const USUAL_WIDTH: u16 = 80;

/// The widest bar: more cells say nothing more.
const WIDEST_BAR: usize = 40;

/// What the layout depends on.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Columns of the terminal, where it is one.
    pub width: Option<u16>,
    /// Styles.
    pub styles: Styles,
    /// Whether every workload that is left is listed.
    pub is_wide: bool,
}

/// The lines of the page. `namespace` is the one that was asked for, all when `None`.
pub fn lines(survey: &Survey, status: &Status, advisor: &Advisor, namespace: Option<&str>, look: Look) -> Vec<String> {
    let mut lines = headline(status, look);
    if survey.revisions.is_empty() {
        return lines;
    }
    lines.push(String::new());
    lines.extend(revisions(survey, status, look));
    if !status.namespaces.is_empty() {
        lines.push(String::new());
        lines.extend(bars(status, look));
    }
    let left = left(survey, status, advisor, look, namespace);
    if !left.is_empty() {
        lines.push(String::new());
        lines.extend(left);
    }
    if !status.besides.is_empty() {
        lines.push(String::new());
        lines.extend(besides(status, advisor, look));
    }
    let about_certificates = certificate_lines(survey, look);
    if !about_certificates.is_empty() {
        lines.push(String::new());
        lines.extend(about_certificates);
    }
    lines
}

/// Which way the mesh goes; where that is not known, what says one thing and what another.
fn headline(status: &Status, look: Look) -> Vec<String> {
    let mut lines = wrapped(&status.headline().style(look.styles.heading).to_string(), "  ", look.width);
    if let Direction::Unknown(course) = &status.direction {
        lines.extend(course.evidence.iter().flat_map(|evidence| wrapped(&format!("  {evidence}"), "    ", look.width)));
    }
    lines
}

/// What is no workload on its way.
fn besides(status: &Status, advisor: &Advisor, look: Look) -> Vec<String> {
    let mut lines = vec!["Besides".style(look.styles.heading).to_string()];
    for beside in &status.besides {
        lines.extend(wrapped(&format!("  {}", beside.words), "    ", look.width));
        if look.is_wide {
            lines.extend(beside.subjects.iter().map(|subject| format!("    {subject}")));
        }
        if let Some(command) = &beside.command {
            lines.extend(wrapped_command("    ", &advisor.words(command), look.width));
        }
    }
    lines
}

/// The revisions side by side; one below the other where they do not fit.
fn revisions(survey: &Survey, status: &Status, look: Look) -> Vec<String> {
    let facts = |revision: &Revision| facts(survey, status, revision);
    let names = survey.revisions.iter().map(|revision| revision.name.as_str());
    let mut table = Table::new(std::iter::empty());
    let heading: Vec<String> = names.map(|name| name.style(look.styles.heading).to_string()).collect();
    table.row(std::iter::once(String::new()).chain(heading).collect());
    for (place, name) in FACTS.into_iter().enumerate() {
        let cells = survey.revisions.iter().map(|revision| facts(revision)[place].clone());
        table.row(std::iter::once(name.to_owned()).chain(cells).collect());
    }
    let side_by_side = written(&table);
    let fits = |width: u16| side_by_side.iter().all(|line| columns(line) <= usize::from(width));
    if look.width.is_none_or(fits) {
        return side_by_side;
    }
    let mut lines = Vec::new();
    for revision in &survey.revisions {
        let [version, ready, proxies, tags, support, role] = facts(revision);
        let name = revision.name.style(look.styles.heading);
        let text = format!(
            "{name} ({role}): version {version}, ready: {ready}, proxies: {proxies}, tags: {tags}, support until {support}"
        );
        lines.extend(wrapped(&text, "  ", look.width));
    }
    lines
}

const FACTS: [&str; 6] = ["version", "ready", "proxies", "tags", "support until", "role"];

fn facts(survey: &Survey, status: &Status, revision: &Revision) -> [String; 6] {
    let today = survey.now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let release = revision.version().and_then(|version| Releases::known().of(version));
    [
        or_none(revision.version().map(ToString::to_string)),
        revision.readiness_word().to_owned(),
        revision.proxies.to_string(),
        or_none(Some(revision.tags.join(","))),
        release.map_or_else(|| "<unknown>".to_owned(), |release| release.end_in_words(today)),
        status.role(revision).to_owned(),
    ]
}

/// A bar for each namespace, and one for all.
fn bars(status: &Status, look: Look) -> Vec<String> {
    let width = usize::from(look.width.unwrap_or(USUAL_WIDTH));
    let total = status.total();
    let sum = (status.namespaces.len() > 1).then_some(&total);
    let shares: Vec<&Share> = status.namespaces.iter().chain(sum).collect();
    let counts: Vec<String> = shares.iter().map(|share| count(share)).collect();
    let count_width = counts.iter().map(|count| columns(count)).max().unwrap_or_default();
    // A name may take a third of the page, what it leaves is the bar's.
    let longest = shares.iter().map(|share| columns(&share.namespace)).max().unwrap_or_default();
    let name_width = longest.min((width / 3).max(8)).min(width.saturating_sub(count_width + 2));
    let bar_width = width.saturating_sub(name_width + count_width + 4).min(WIDEST_BAR);
    let line = |(share, count): (&&Share, &String)| {
        let name = shortened(&share.namespace, name_width);
        let padding = " ".repeat(name_width - columns(&name));
        let bar = if bar_width < 4 { String::new() } else { format!("  {}", bar(share, bar_width, look.styles)) };
        format!("{name}{padding}{bar}  {count:>count_width$}")
    };
    let mut lines = vec![heading(status, look)];
    lines.extend(shares.iter().zip(&counts).map(line));
    lines
}

fn heading(status: &Status, look: Look) -> String {
    let to = status.to.as_deref().unwrap_or("no revision");
    let not_ready = match status.total().not_ready {
        0 => String::new(),
        number => format!(" ({number} more in pods that are not ready)"),
    };
    let text = format!("Proxies on {to}{not_ready}");
    shortened(&text, usize::from(look.width.unwrap_or(USUAL_WIDTH))).style(look.styles.heading).to_string()
}

/// `8/12  66%`. All is said only of all: 999 of 1000 are 99 %.
fn count(share: &Share) -> String {
    let percent = if share.proxies == 0 { 100 } else { u64::from(share.migrated) * 100 / u64::from(share.proxies) };
    format!("{}/{} {percent:>3}%", share.migrated, share.proxies)
}

/// A full bar means all, an empty one none: whatever is between shows both.
fn bar(share: &Share, width: usize, styles: Styles) -> String {
    let (migrated, proxies) = (share.migrated as usize, (share.proxies as usize).max(1));
    let mut full = migrated * width / proxies;
    if migrated > 0 {
        full = full.max(1);
    }
    let style: Style = if share.migrated == share.proxies { styles.current } else { styles.stale };
    format!("{}{}", "█".repeat(full).style(style), "░".repeat(width - full))
}

/// What is left, by cause: how much, why, and the command that deals with it.
fn left(survey: &Survey, status: &Status, advisor: &Advisor, look: Look, namespace: Option<&str>) -> Vec<String> {
    let installed = status.still_installed();
    if status.left.is_empty() && installed.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["Left".style(look.styles.heading).to_string()];
    for (why, (workloads, proxies)) in status.groups() {
        let amount = format!(
            "{} of {}",
            plural(u64::from(proxies), "proxy", "proxies"),
            plural(workloads as u64, "workload", "workloads")
        );
        let since = since(survey, status, why).map_or_else(String::new, |since| format!(" (since {since})"));
        let text = format!("  {}: {}{since}", amount.style(style_of(why, look.styles)), why.words());
        lines.extend(wrapped(&text, "    ", look.width));
        if look.is_wide {
            for left in status.left.iter().filter(|left| left.why == *why) {
                let id = &left.verdict.workload;
                lines.push(format!("    {} -n {} ({})", id.qualified_name(), id.namespace, left.proxies));
            }
        }
        if let Some(command) = status.command(why, namespace) {
            lines.extend(wrapped_command("    ", &advisor.words(&command), look.width));
        }
    }
    lines.extend(installed.into_iter().map(|revision| format!("  revision {revision} is still installed")));
    lines
}

/// How long the first pod of a group has not been ready.
fn since(survey: &Survey, status: &Status, why: &Why) -> Option<String> {
    let pods = status.left.iter().filter(|left| left.why == *why).flat_map(|left| &left.not_ready);
    let first = pods.filter_map(|pod| pod.since).min()?;
    Some(human_duration(survey.now.duration_since(first).max(jiff::SignedDuration::ZERO)))
}

fn style_of(why: &Why, styles: Styles) -> Style {
    match why {
        Why::Orphaned => styles.orphaned,
        Why::Stuck { .. } | Why::WentBack { .. } => styles.error,
        Why::RollingOut => styles.stale,
        Why::Stale | Why::Tag { .. } | Why::Label { .. } | Why::OwnLabel { .. } | Why::Injection { .. } => styles.stale,
        Why::Unknown(_) => styles.unknown,
        Why::Blocked(_) => styles.blocked,
        Why::Pinned => styles.pinned,
        Why::Leaving => styles.leaving,
    }
}

/// How long the certificates of proxies without a control plane last.
fn certificate_lines(survey: &Survey, look: Look) -> Vec<String> {
    let mut lines = Vec::new();
    for revision in &survey.revisions {
        let proxies = plural(u64::from(revision.proxies), "proxy", "proxies");
        let text = match certificates(revision) {
            Certificates::Renewed => continue,
            Certificates::Ending(expiry) => {
                let left = |moment| human_duration(survey.now.duration_until(moment).max(jiff::SignedDuration::ZERO));
                format!(
                    "Certificates of {proxies} of {} are no longer renewed: the first end in {} at the earliest, all in {}, with \
                     Istio's usual lifetime.",
                    revision.name,
                    left(expiry.earliest),
                    left(expiry.latest)
                )
            }
            Certificates::NoSource => format!(
                "Certificates of {proxies} of {} are no longer renewed; nothing in the cluster tells when they end, which is a day \
                 after their last renewal, usually.",
                revision.name
            ),
        };
        lines.extend(wrapped(&text, "", look.width));
    }
    lines
}

fn written(table: &Table) -> Vec<String> {
    let mut text = Vec::new();
    table.write(Header::Hidden, &mut text).expect("writing to memory never fails");
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

/// A text in lines of at most `width` columns, broken at blanks; all but the first begin with `indent`. What has no blank stays
/// whole, since a command that was cut cannot be copied. Without a width it is one line.
pub fn wrapped(text: &str, indent: &str, width: Option<u16>) -> Vec<String> {
    let Some(width) = width.map(usize::from) else { return vec![text.to_owned()] };
    let blanks = text.len() - text.trim_start().len();
    let words: Vec<&str> = text.split_whitespace().collect();
    filled(&text[..blanks], &words, &Fold { indent, end: "", width })
}

/// A command in lines of at most `width` columns, broken between its words in the way that a shell puts together again: whoever
/// copies a part of it does not run that part.
pub fn wrapped_command(lead: &str, words: &[String], width: Option<u16>) -> Vec<String> {
    let Some(width) = width.map(usize::from) else { return vec![format!("{lead}{}", words.join(" "))] };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    filled(lead, &words, &Fold { indent: "      ", end: " \\", width })
}

/// How lines are broken.
struct Fold<'a> {
    /// What all lines but the first begin with.
    indent: &'a str,
    /// What all lines but the last end with.
    end: &'a str,
    /// The most columns of a line.
    width: usize,
}

/// Lines of words, as many in each as there is room for. The first line begins with `lead`.
fn filled(lead: &str, words: &[&str], fold: &Fold<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = lead.to_owned();
    let mut is_begun = false;
    for (place, word) in words.iter().enumerate() {
        let end = if place + 1 < words.len() { columns(fold.end) } else { 0 };
        if is_begun && columns(&line) + 1 + columns(word) + end > fold.width {
            line.push_str(fold.end);
            lines.push(std::mem::replace(&mut line, fold.indent.to_owned()));
            is_begun = false;
        }
        if is_begun {
            line.push(' ');
        }
        line.push_str(word);
        is_begun = true;
    }
    lines.push(line);
    lines
}

/// A text of at most `width` columns, its end left out.
fn shortened(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(std::iter::once('…')).collect()
}

/// How many columns a text takes: our styles take none, and names and commands are of plain characters.
fn columns(text: &str) -> usize {
    let mut count = 0;
    let mut is_style = false;
    for character in text.chars() {
        match character {
            '\x1b' => is_style = true,
            'm' if is_style => is_style = false,
            _ if is_style => {}
            _ => count += 1,
        }
    }
    count
}

/// Whether a page is on the terminal already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawing {
    /// Whatever stands there is wiped.
    First,
    /// The page before is drawn over.
    Again,
}

/// The text that draws a page over the one before: each line is written over the old one and only what sticks out is wiped, so that
/// nothing flickers. Of a page that is longer than the terminal the middle is left out, and how much that is stands there: its
/// last `foot` lines say what to do next.
pub fn redrawn(page: &[String], foot: usize, drawing: Drawing, height: Option<u16>) -> String {
    let mut text = match drawing {
        Drawing::First => "\x1b[2J\x1b[H".to_owned(),
        Drawing::Again => "\x1b[H".to_owned(),
    };
    let mut push = |line: &str| writeln!(text, "{line}\x1b[K").expect("writing to a String never fails");
    // The cursor stands on a line of its own.
    let room = height.map_or(usize::MAX, |height| usize::from(height).saturating_sub(1));
    let (body, foot) = page.split_at(page.len() - foot);
    if page.len() <= room {
        page.iter().for_each(|line| push(line));
    } else {
        let shown = room.saturating_sub(foot.len() + 1);
        body[..shown].iter().for_each(|line| push(line));
        push(&format!("… {}", plural((body.len() - shown) as u64, "more line", "more lines")));
        foot.iter().for_each(|line| push(line));
    }
    text.push_str("\x1b[J");
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn share(namespace: &str, migrated: u32, proxies: u32) -> Share {
        Share { namespace: namespace.into(), proxies, migrated, not_ready: 0, by_revision: BTreeMap::new() }
    }

    fn status(namespaces: Vec<Share>) -> Status {
        Status { to: Some("1-28-2".to_owned()), namespaces, ..Status::default() }
    }

    fn look(width: u16) -> Look {
        Look { width: Some(width), styles: Styles::default(), is_wide: false }
    }

    #[test]
    fn bars_fit_any_terminal() {
        let status = status(vec![share("a-namespace-with-a-long-name-that-is-cut", 1, 3), share("shop", 120, 120)]);
        for width in [20, 40, 80, 120] {
            for line in bars(&status, look(width)) {
                assert!(columns(&line) <= usize::from(width), "{width}: {line:?} has {}", columns(&line));
            }
        }
        let at_40 = bars(&status, look(40));
        assert_eq!(at_40[1], "a-namespace-…  ███░░░░░░░░      1/3  33%");
    }

    #[test]
    fn a_full_bar_is_all_and_an_empty_one_none() {
        let cells = |migrated, proxies| bar(&share("x", migrated, proxies), 10, Styles::default());
        assert_eq!(cells(0, 1000), "░░░░░░░░░░");
        assert_eq!(cells(1, 1000), "█░░░░░░░░░");
        assert_eq!(cells(999, 1000), "█████████░");
        assert_eq!(cells(1000, 1000), "██████████");
        assert_eq!([count(&share("x", 999, 1000)), count(&share("x", 0, 0))], ["999/1000  99%", "0/0 100%"]);
    }

    #[test]
    fn text_is_broken_at_blanks_and_never_inside_a_word() {
        assert_eq!(wrapped("  one two three", "    ", Some(10)), ["  one two", "    three"]);
        assert_eq!(wrapped("averyveryverylongword x", "  ", Some(10)), ["averyveryverylongword", "  x"]);
        assert_eq!(wrapped("one two three", "  ", None), ["one two three"]);
    }

    #[test]
    fn a_broken_command_is_put_together_by_a_shell() {
        let words = ["kubectl", "--context='my  prod'", "get", "pods"].map(str::to_owned);
        let lines = wrapped_command("  ", &words, Some(32));
        assert_eq!(lines, ["  kubectl --context='my  prod' \\", "      get pods"]);
        assert_eq!(wrapped_command("  ", &words, None), ["  kubectl --context='my  prod' get pods"]);
    }

    #[test]
    fn a_page_is_drawn_over_the_last_one() {
        let page = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let short = page(&["a", "b"]);
        assert_eq!(redrawn(&short, 1, Drawing::First, Some(10)), "\x1b[2J\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(redrawn(&short, 0, Drawing::Again, None), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        let long = page(&["a", "b", "c", "d", "next"]);
        let cut = "\x1b[Ha\x1b[K\n… 3 more lines\x1b[K\nnext\x1b[K\n\x1b[J";
        assert_eq!(redrawn(&long, 1, Drawing::Again, Some(4)), cut);
        // A terminal without room for anything shows what comes next.
        assert!(redrawn(&long, 1, Drawing::Again, Some(1)).contains("next"));
    }
}
