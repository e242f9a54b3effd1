//! What is shown before anything is written: object by object, then counted by kind, and what matters most at the end.

use std::collections::BTreeMap;

use mesh::change::{Action, Subject};
use mesh::terminal::Terminal;
use mesh::terminal::stop::Stop;
use owo_colors::OwoColorize;

use super::contents::Contents;
use super::event::Events;
use super::plan::{Plan, Turn};

/// What is going to be done with one object.
pub struct Planned {
    /// The object.
    pub subject: Subject,
    /// `create`, `update`, `none`, or `apply` where another program writes an object that is there.
    pub action: &'static str,
    /// Field by field, where that is short.
    differences: Vec<String>,
}

impl Planned {
    /// What a plan does.
    pub fn of_plan(plan: &Plan) -> Vec<Planned> {
        let planned = plan.steps.iter().map(|step| {
            let action = step.change.action();
            // A definition's schema is hundreds of lines: that it changes is enough.
            let is_brief = action != Action::Update || step.turn == Turn::Definition;
            let differences = if is_brief { Vec::new() } else { step.change.differences() };
            Planned { subject: step.change.subject.clone(), action: action.as_str(), differences }
        });
        planned.collect()
    }

    /// What another program does, which writes an object that is there once more.
    pub fn of_program((subject, is_here): (Subject, bool)) -> Planned {
        Planned { subject, action: if is_here { "apply" } else { "create" }, differences: Vec::new() }
    }
}

/// Shows it object by object.
///
/// # Errors
/// When it cannot be written.
pub fn show(planned: &[Planned], contents: &Contents, plan: &Plan, events: &Events, terminal: &mut Terminal) -> Result<(), Stop> {
    for (object, why) in contents.left_out.iter().chain(&plan.left_out) {
        events.left_out(object, why, terminal)?;
    }
    for Planned { subject, action, differences } in planned {
        events.planned(subject, action, differences, terminal)?;
    }
    Ok(())
}

/// What stands directly above the question: objects by kind, and what matters most.
///
/// # Errors
/// When it cannot be written.
pub fn summary(planned: &[Planned], notes: &[String], terminal: &mut Terminal) -> Result<(), Stop> {
    for action in ["create", "update", "apply"] {
        let counts = by_kind(planned, action);
        if !counts.is_empty() {
            writeln!(terminal.err, "To {action}: {}", counts.join(", "))?;
        }
    }
    for note in notes {
        writeln!(terminal.err, "{} {note}", "note:".style(terminal.err_styles.warning))?;
    }
    Ok(())
}

/// How many objects of each kind, in the order of the plan.
fn by_kind(planned: &[Planned], action: &str) -> Vec<String> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for planned in planned.iter().filter(|planned| planned.action == action) {
        let kind = planned.subject.kind.as_str();
        let place = *places.entry(kind).or_insert_with(|| {
            counts.push((kind, 0));
            counts.len() - 1
        });
        counts[place].1 += 1;
    }
    let told = counts.into_iter().map(|(kind, count)| match (count, kind.strip_suffix('y')) {
        (1, _) => format!("1 {kind}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        _ => format!("{count} {kind}s"),
    });
    told.collect()
}

/// What matters most: what of the running mesh configuration the new revision would not have, and what nothing takes back.
pub fn notes(lines: &[(String, String)], planned: &[Planned], names: &Names<'_>) -> Vec<String> {
    let Names { old, new, version, is_by_program } = *names;
    let mut notes = Vec::new();
    let lost: Vec<&str> = lines.iter().filter(|(_, text)| !text.ends_with("carried over")).map(|(key, _)| key.as_str()).collect();
    if let (Some(old), false) = (old, lost.is_empty()) {
        let way = if is_by_program {
            "--set meshConfig.KEY=VALUE behind -- sets them".to_owned()
        } else {
            "--carry-mesh-config carries them over".to_owned()
        };
        notes.push(format!("the mesh configuration of {new} differs from that of {old} in {}; {way}", lost.join(", ")));
    }
    let is_definition =
        |planned: &&Planned| planned.subject.kind == "CustomResourceDefinition" && matches!(planned.action, "update" | "apply");
    let definitions = planned.iter().filter(is_definition).count();
    if definitions > 0 {
        let become_words = if is_by_program { "may become" } else { "become" };
        notes.push(format!(
            "{definitions} CustomResourceDefinitions are shared by all revisions, and {become_words} those of {version}: this cannot be undone"
        ));
    }
    notes
}

/// Whom the notes are about.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// The running revision.
    pub old: Option<&'a str>,
    /// The new one.
    pub new: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Whether another program writes.
    pub is_by_program: bool,
}

#[cfg(test)]
mod tests {
    use mesh::object::Resource;

    use super::*;

    #[test]
    fn objects_are_counted_by_kind_and_what_cannot_be_undone_is_named() {
        let subject = |kind: &str| Subject { kind: kind.to_owned(), ..Subject::new(Resource::Services, None, "x") };
        let of = |kind: &str, is_here: bool| Planned::of_program((subject(kind), is_here));
        let planned = [
            of("ConfigMap", false),
            of("NetworkPolicy", false),
            of("ConfigMap", false),
            of("NetworkPolicy", false),
            of("CustomResourceDefinition", true),
            of("Service", false),
        ];
        assert_eq!(by_kind(&planned, "create"), ["2 ConfigMaps", "2 NetworkPolicies", "1 Service"]);
        let names = Names { old: Some("1-26-0"), new: "1-28-2", version: "1.28.2", is_by_program: false };
        let line = |key: &str, text: &str| (key.to_owned(), text.to_owned());
        let told = notes(&[line("accessLogFile", "is none"), line("b", "is none: carried over")], &planned, &names);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("in accessLogFile; --carry-mesh-config"), "{told:?}");
        assert!(told[1].starts_with("1 CustomResourceDefinition") && told[1].ends_with("this cannot be undone"), "{told:?}");
    }
}
