//! A program that installs the revision, on the connection that was checked.

use mesh::advice::{Advice, Command};
use std::rc::Rc;

use mesh::cluster::connection::Connection;
use mesh::installation::DEFAULT_VALIDATOR;
use mesh::labels;
use mesh::manifest::Manifest;
use mesh::session::Session;
use mesh::snapshot::Snapshot;
use mesh::terminal::stop::Stop;
use serde_json::Value;

use super::contents::{Contents, Obstacle, described, label};
use super::webhooks::{DefaultTag, Webhooks};
use crate::program::Program;
use crate::program::arguments::Arguments;
use crate::program::release::Release;

/// A program, its arguments and its connection.
pub struct Installer {
    program: Program,
    arguments: Arguments,
    connection: Rc<Connection>,
}

/// The namespace of helm's release: as typed, as helm's own variable says, or the context's.
pub fn release_namespace(arguments: &Arguments, context_namespace: &str) -> String {
    let variable = || std::env::var("HELM_NAMESPACE").ok().filter(|namespace| !namespace.is_empty());
    arguments.namespace().map(str::to_owned).or_else(variable).unwrap_or_else(|| context_namespace.to_owned())
}

impl Installer {
    /// Makes sure that the program can be run.
    ///
    /// # Errors
    /// When it is not there, or cannot be given the connection.
    pub async fn new(session: &mut Session, program: Program, arguments: Arguments) -> Result<Installer, Stop> {
        let connection = session.connect().await?;
        program.check(&connection).await?;
        let arguments = match program {
            Program::Istioctl => arguments,
            // The variable is taken out of the program's surroundings, and stands where everybody can read it.
            Program::Helm => {
                let namespace = release_namespace(&arguments, &connection.namespace);
                arguments.in_namespace(&namespace)
            }
        };
        Ok(Installer { program, arguments, connection })
    }

    /// What it would install.
    ///
    /// # Errors
    /// When it fails.
    pub async fn rendered(&self) -> Result<String, Stop> {
        self.program.read(&self.connection, &self.arguments.rendering()).await
    }

    /// The program's name.
    pub const fn name(&self) -> &'static str {
        self.program.name()
    }

    /// Its command line.
    pub fn line(&self) -> String {
        self.program.line(&self.arguments.words())
    }

    /// Runs it.
    ///
    /// # Errors
    /// When it fails.
    pub async fn run(&self, session: &mut Session) -> Result<(), Stop> {
        self.program.run(session, &self.connection, &self.arguments.words()).await
    }

    /// How its manifests are given to a start that makes no tag.
    fn by_manifests(&self, revision: &str) -> Command {
        let rendering = self.arguments.rendering().into_iter().skip(2);
        let start = Command::mesh_upgrade("start").flag("--revision", revision).words("-f -");
        Command::istioctl("manifest generate").values(rendering).local().read_by(start)
    }

    /// What it would do to the tag `default`, and nobody has accepted.
    pub fn default_tag(&self, tag: &DefaultTag, revision: &str) -> Obstacle {
        let name = self.program.name();
        let reason = format!("{name} install creates it where there is none, pointing to {revision}: {}", tag.effect);
        let advice = Advice::run(self.by_manifests(revision)).and_say(" makes no tag; or accept it with --accept-default-tag");
        Obstacle::new("tag default", reason, advice)
    }

    /// What it would do to the tag `default`; only istioctl does anything that its manifests do not say.
    pub fn makes_default_tag(&self, webhooks: &Webhooks, snapshot: &Snapshot, revision: &str) -> Option<DefaultTag> {
        (self.program == Program::Istioctl).then(|| DefaultTag::of(webhooks, snapshot, revision)).flatten()
    }

    /// What it would write that no start writes: tags, the default validator, and what else a release of that name holds.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub async fn obstacles(
        &self,
        documents: &[Manifest],
        contents: &Contents,
        revision: &str,
        webhooks: &Webhooks,
    ) -> Result<Vec<Obstacle>, Stop> {
        let name = self.program.name();
        let tags = documents.iter().filter(|manifest| label(&manifest.object, labels::TAG).is_some()).map(|manifest| {
            let reason = format!("{name} would write this tag, and whoever follows it would follow the new revision at once");
            Obstacle::new(
                described(&manifest.object),
                reason,
                Advice::say(format!("leave revisionTags out of what {name} is given")),
            )
        });
        let mut obstacles: Vec<Obstacle> = tags.collect();
        obstacles.extend(documents.iter().filter_map(|manifest| default_validator(&manifest.object, webhooks, name)));
        if self.program == Program::Helm {
            obstacles.extend(self.release(documents, contents, revision).await?);
        }
        Ok(obstacles)
    }

    async fn release(&self, documents: &[Manifest], contents: &Contents, revision: &str) -> Result<Vec<Obstacle>, Stop> {
        let (Some(name), Some(namespace)) = (self.arguments.release(), self.arguments.namespace()) else { return Ok(Vec::new()) };
        let held = Release::read_all(&self.connection, name, namespace).await?;
        let coming: Vec<Value> = documents.iter().map(|manifest| manifest.object.clone()).collect();
        let mut hurt: Vec<String> =
            held.iter().flat_map(|release| release.hurt_by(&coming, revision, &contents.namespace)).collect();
        hurt.sort();
        hurt.dedup();
        let subject = format!("release {name} -n {namespace} of helm");
        let advice = Advice::say(format!("give the new revision a release of its own, such as istiod-{revision}"));
        let mut obstacles: Vec<Obstacle> = hurt
            .into_iter()
            .map(|what| Obstacle::new(subject.clone(), format!("it is here, and {what}"), advice.clone()))
            .collect();
        if obstacles.is_empty() && !held.is_empty() && !self.arguments.changes_what_is_there() {
            let reason = "it is here already, and this would make a new one only";
            obstacles.push(Obstacle::new(
                subject,
                reason,
                Advice::run(Command::helm("upgrade --install")).and_say(" goes on with it"),
            ));
        }
        Ok(obstacles)
    }
}

/// The default validator validates for everybody: no start moves it.
fn default_validator(object: &Value, webhooks: &Webhooks, program: &str) -> Option<Obstacle> {
    if object["kind"] != "ValidatingWebhookConfiguration" || object["metadata"]["name"] != DEFAULT_VALIDATOR {
        return None;
    }
    let coming = label(object, labels::REVISION).unwrap_or("default");
    let reason = match webhooks.default_validator().map(|live| label(live, labels::REVISION).unwrap_or("default")) {
        Some(now) if now == coming => return None,
        Some(now) => format!("{program} would move it from revision {now} to {coming}, and it validates for everybody"),
        None => format!("{program} would create it, pointing to revision {coming}, and it validates for everybody"),
    };
    let advice = Advice::say(format!("give {program} defaultRevision= (empty), or the revision that it points to now"));
    Some(Obstacle::new(format!("validatingwebhookconfigurations/{DEFAULT_VALIDATOR}"), reason, advice))
}
