//! What is seen of a revision that is to go: what it consists of, and who uses it.

use std::collections::BTreeSet;

use mesh::advice::{Advice, Command};
use mesh::cluster::owners::gone;
use mesh::cluster::users::{Leaving, Users};
use mesh::installation::{Installation, label};
use mesh::labels;
use mesh::owner::Owner;
use mesh::platform::{Step, Way};
use mesh::refusal::Refusal;
use mesh::session::Session;
use mesh::terminal::progress::Progress;
use mesh::terminal::stop::Stop;
use mesh::uses::Departing;
use serde_json::Value;

use super::removal::{self, Part, Removal};
use super::{ISTIO_NAMESPACE, read};
use crate::revisions::{Plane, Revision, revisions};
use crate::survey::{Counter, tell_warnings};

/// What was seen of the revision in question.
pub struct Sight {
    /// Who uses it, and what that was found in.
    pub users: Users,
    revisions: Vec<Revision>,
}

impl Sight {
    /// Reads everything, each list once.
    ///
    /// # Errors
    /// When the cluster cannot be reached, pods cannot be listed, or it is not clear which control plane is meant.
    pub async fn look(session: &mut Session, revision: &str) -> Result<Sight, Stop> {
        let connection = session.connect().await?;
        let hint = session.flags.istio_namespace.clone();
        let hint = hint.as_deref();
        let progress = Progress::start(session.terminal.err_audience, "objects");
        let leaving = Leaving { what: Departing::Revision, name: revision };
        let counter = Counter::new(&progress);
        let namespace_of = |installation: &Installation| namespace_of(installation, revision, hint);
        let users = Users::read(&connection, hint, leaving, &counter, namespace_of).await??;
        progress.clear();
        tell_warnings(&connection, &mut session.terminal);
        let revisions = revisions(&users.snapshot, &users.installation.istiods);
        Ok(Sight { users, revisions })
    }

    /// The name of the revision.
    fn revision(&self) -> &str {
        self.users.departure().name
    }

    /// Where its control plane is, or was.
    pub fn namespace(&self) -> &str {
        &self.users.namespace
    }

    /// What is installed.
    pub fn installation(&self) -> &Installation {
        &self.users.installation
    }

    /// What has to be deleted, and by whom.
    ///
    /// # Errors
    /// When nothing of it is there, it belongs to somebody else, or nothing would be left beside it.
    pub async fn decide(&self, session: &mut Session) -> Result<Removal, Stop> {
        let revision = self.revision();
        let way = self.plane().map(|plane| plane.platform.way(Step::Complete, revision));
        if let Some(Way::Elsewhere(how)) = way {
            let platform = self.plane().map_or("somebody else", |plane| plane.platform.name());
            let reason = format!("revision {revision} belongs to its platform ({platform}), which removes it");
            return Err(Refusal::new(reason, how).into());
        }
        let connection = session.connect().await?;
        let mut found = read::consists_of(&connection, revision, self.namespace()).await?;
        found.extend(removal::besides(&self.users.inventory, revision, self.namespace()));
        let gone = gone(&connection, self.parts_of(&found)).await?;
        let has_release = |release: &str, namespace: &str| {
            !gone.contains(&Owner::Helm { release: release.to_owned(), namespace: namespace.to_owned() })
        };
        let removal = match way {
            Some(Way::Helm { release, namespace }) if has_release(&release, &namespace) => {
                let objects = removal::of_release(self.installation(), found, &self.users.departure(), (&release, &namespace));
                Removal::Helm { release, namespace, objects }
            }
            _ => Removal::Objects(removal::removal(self.installation(), found, &self.users.departure(), &gone)?),
        };
        if matches!(&removal, Removal::Objects(changes) if changes.is_empty()) {
            return Err(self.not_here().into());
        }
        self.check_others()?;
        Ok(removal)
    }

    /// Every object that may belong to the revision.
    fn parts_of<'a>(&'a self, found: &'a [(Part, Value)]) -> impl Iterator<Item = &'a Value> {
        let installation = self.installation();
        let webhooks = installation.injectors.iter().chain(&installation.validators);
        let own = webhooks.filter(|webhook| label(webhook, labels::REVISION) == Some(self.revision()));
        found.iter().map(|(_, object)| object).chain(own)
    }

    fn plane(&self) -> Option<&Plane> {
        let mut named = self.revisions.iter().filter(|found| found.name == self.revision());
        named.find_map(|found| found.control_plane.as_ref().filter(|plane| plane.namespace == self.namespace()))
    }

    /// Something has to be left to inject and to validate.
    fn check_others(&self) -> Result<(), Refusal> {
        let is_other = |other: &&Revision| other.name != self.revision() && other.is_ready();
        if self.revisions.iter().any(|other| is_other(&other)) {
            return Ok(());
        }
        let reason = format!("revision {} is the only one: no other control plane is ready to take its place", self.revision());
        let advice = Advice::run(Command::mesh_upgrade("targets"))
            .and_say(" shows what is here; ")
            .and_run(Command::istioctl("uninstall --purge"))
            .and_say(" ends the mesh");
        Err(Refusal::new(reason, advice))
    }

    fn not_here(&self) -> Refusal {
        let names: BTreeSet<&str> = self.revisions.iter().map(|found| found.name.as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.into_iter().collect::<Vec<_>>().join(", ") };
        Refusal::not_found(
            format!("revision {} is not here, nor anything of it: there are {names}", self.revision()),
            Command::mesh_upgrade("targets"),
        )
    }
}

/// The namespace of the revision's control plane, or where one that is half removed was.
fn namespace_of(installation: &Installation, revision: &str, hint: Option<&str>) -> Result<String, Refusal> {
    let planes = &installation.snapshot.control_planes;
    let named = planes.iter().filter(|plane| plane.revision == revision);
    let namespaces: BTreeSet<&str> =
        named.map(|plane| plane.namespace.as_str()).filter(|namespace| !namespace.is_empty()).collect();
    match (hint, namespaces.len()) {
        (Some(hint), _) => Ok(hint.to_owned()),
        (None, 0) => {
            let mut others = planes.iter().map(|plane| plane.namespace.clone()).filter(|namespace| !namespace.is_empty());
            Ok(others.next().unwrap_or_else(|| ISTIO_NAMESPACE.to_owned()))
        }
        (None, 1) => Ok(namespaces.into_iter().next().unwrap_or_default().to_owned()),
        (None, _) => {
            let places = namespaces.into_iter().collect::<Vec<_>>().join(", ");
            Err(Refusal::new(
                format!("revision {revision} has control planes in several namespaces: {places}"),
                "say which one with -i",
            ))
        }
    }
}
