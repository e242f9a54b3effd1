//! What is seen of a revision that is to go: what it consists of, and who uses it.

use std::collections::BTreeSet;

use mesh::advice::{Advice, Command};
use mesh::cluster::failure::Failure;
use mesh::cluster::inventory::{CallersObserver, read_inventory};
use mesh::cluster::read_installation;
use mesh::cluster::users::places;
use mesh::installation::Installation;
use mesh::platform::{Step, Way};
use mesh::refusal::Refusal;
use mesh::session::Session;
use mesh::terminal::stop::Stop;
use mesh::uses::callers::Callers;
use mesh::uses::inventory::Inventory;
use mesh::uses::{Departing, Departure, Evidence, Uses, uses};

use super::removal::{self, Removal};
use super::{ISTIO_NAMESPACE, read};
use crate::revisions::{Plane, Revision};
use crate::survey::{Survey, survey_seen_by};

/// What was seen of the revision in question.
pub struct Sight {
    survey: Survey,
    installation: Installation,
    callers: Callers,
    inventory: Inventory,
    /// Its name.
    revision: String,
    /// Where its control plane is, or was.
    pub namespace: String,
    /// Who uses it.
    pub uses: Uses,
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
        let observer = CallersObserver::default();
        let survey = survey_seen_by(session, None, &observer);
        // One after the other, beside the list of pods, which takes longest.
        let others = async {
            let installation = read_installation(&connection, hint).await?;
            let namespace = match namespace_of(&installation, revision, hint) {
                Ok(namespace) => namespace,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let departure = Departure { what: Departing::Revision, name: revision, namespace: &namespace };
            let inventory = read_inventory(&connection, &places(&installation, &departure)).await?;
            Ok::<_, Failure>(Ok((installation, namespace, inventory)))
        };
        let (survey, others) = futures::join!(survey, others);
        let (survey, (installation, namespace, inventory)) = (survey?, others??);
        let callers = observer.callers();
        let mut sight =
            Sight { survey, installation, callers, inventory, revision: revision.to_owned(), namespace, uses: Uses::default() };
        sight.uses = uses(&sight.evidence(), &sight.departure());
        let unread = sight.survey.istiods_unread.iter().map(|why| format!("Deployments of istiod: {why}"));
        sight.uses.unknown.extend(unread);
        Ok(sight)
    }

    /// What the uses were found in.
    pub fn evidence(&self) -> Evidence<'_> {
        Evidence {
            snapshot: &self.survey.snapshot,
            installation: &self.installation,
            callers: &self.callers,
            inventory: &self.inventory,
        }
    }

    /// What is to go.
    pub fn departure(&self) -> Departure<'_> {
        Departure { what: Departing::Revision, name: &self.revision, namespace: &self.namespace }
    }

    /// What is installed.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// What has to be deleted, and by whom.
    ///
    /// # Errors
    /// When nothing of it is there, it belongs to somebody else, or nothing would be left beside it.
    pub async fn decide(&self, session: &mut Session) -> Result<Removal, Stop> {
        let revision = self.revision.as_str();
        let way = self.plane().map(|plane| plane.platform.way(Step::Complete, revision));
        if let Some(Way::Elsewhere(how)) = way {
            let platform = self.plane().map_or("somebody else", |plane| plane.platform.name());
            let reason = format!("revision {revision} belongs to its platform ({platform}), which removes it");
            return Err(Refusal::new(reason, how).into());
        }
        let connection = session.connect().await?;
        let mut found = read::consists_of(&connection, revision, &self.namespace).await?;
        found.extend(removal::besides(&self.inventory, revision, &self.namespace));
        let removal = match way {
            Some(Way::Helm { release, namespace }) => {
                let objects = removal::of_release(&self.installation, found, &self.departure(), (&release, &namespace));
                Removal::Helm { release, namespace, objects }
            }
            _ => Removal::Objects(removal::removal(&self.installation, found, &self.departure())?),
        };
        if matches!(&removal, Removal::Objects(changes) if changes.is_empty()) {
            return Err(self.not_here().into());
        }
        self.check_others()?;
        Ok(removal)
    }

    fn plane(&self) -> Option<&Plane> {
        let mut named = self.survey.revisions.iter().filter(|found| found.name == self.revision);
        named.find_map(|found| found.control_plane.as_ref().filter(|plane| plane.namespace == self.namespace))
    }

    /// Something has to be left to inject and to validate.
    fn check_others(&self) -> Result<(), Refusal> {
        let is_other = |other: &&Revision| other.name != self.revision && other.is_ready();
        if self.survey.revisions.iter().any(|other| is_other(&other)) {
            return Ok(());
        }
        let reason = format!("revision {} is the only one: no other control plane is ready to take its place", self.revision);
        let advice = Advice::run(Command::mesh_upgrade("targets"))
            .and_say(" shows what is here; ")
            .and_run(Command::istioctl("uninstall --purge"))
            .and_say(" ends the mesh");
        Err(Refusal::new(reason, advice))
    }

    fn not_here(&self) -> Refusal {
        let names: BTreeSet<&str> = self.survey.revisions.iter().map(|found| found.name.as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.into_iter().collect::<Vec<_>>().join(", ") };
        Refusal::not_found(
            format!("revision {} is not here, nor anything of it: there are {names}", self.revision),
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
