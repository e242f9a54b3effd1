//! Revisions of which only a part is here: an installation or a removal of them came to no end.

use std::collections::{BTreeMap, BTreeSet};

use mesh::advice::Command;
use mesh::cluster::List;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::control_plane::{Readiness, UNREVISIONED, revision_suffix};
use mesh::finding::{Code, Finding, Severity};
use mesh::installation::{label, name};
use mesh::labels;
use mesh::needs::Needs;
use mesh::object::Resource;
use mesh::refusal::Refusal;
use mesh::session::Session;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::uses::own::{is_of_control_plane, is_own_config_map};
use serde_json::Value;

use crate::complete::read::consists_of;
use crate::complete::removal;
use crate::survey::{self, Survey};

/// Where control planes are, unless something says otherwise.
const ISTIO_NAMESPACE: &str = "istio-system";

/// Accounts: the first that an installation writes after its configuration, and the last that a removal deletes.
const ACCOUNTS: (&str, &str, &str) = ("", "v1", "serviceaccounts");

/// A revision of which only a part is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partly {
    /// Its name.
    pub revision: String,
    /// The namespace where its control plane was, or was to be.
    pub namespace: String,
    /// What tells which of both came to no end.
    signs: Signs,
    /// How many objects of it are here; `None` where they may not be read.
    objects: Option<usize>,
}

/// Which of its objects have been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Signs {
    has_configuration: bool,
    has_account: bool,
}

impl Signs {
    /// An installation writes the mesh configuration first and accounts later; a removal deletes accounts last.
    const fn in_words(self) -> &'static str {
        match (self.has_configuration, self.has_account) {
            (true, false) => "partly installed",
            (false, true) => "partly removed",
            _ => "partly installed or partly removed",
        }
    }
}

impl Partly {
    /// What is told of it, with the command that takes the rest away.
    pub fn finding(&self) -> Finding {
        let objects = self
            .objects
            .map_or_else(|| "objects of it are left".to_owned(), |count| plural(count as u64, "object left", "objects left"));
        let mut remove = Command::mesh_upgrade("complete").flag("--remove", &self.revision);
        if self.namespace != ISTIO_NAMESPACE {
            remove = remove.flag("--istio-namespace", &self.namespace);
        }
        Finding {
            severity: Severity::Warning,
            code: Code::PartlyHere,
            subject: format!("revision {} -n {}", self.revision, self.namespace),
            message: format!("{}, {objects}", self.signs.in_words()),
            advice: remove.into(),
        }
    }
}

/// As [`survey::survey`], with a finding for each revision of which only a part is here.
///
/// # Errors
/// As [`survey::survey`].
pub async fn survey(session: &mut Session, namespace: Option<&str>) -> Result<Survey, Stop> {
    let mut survey = survey::survey(session, namespace).await?;
    let connection = session.connect().await?;
    note(&connection, &mut survey).await?;
    Ok(survey)
}

/// Adds a finding for each revision of which only a part is here.
///
/// # Errors
/// As [`read`].
pub async fn note(connection: &Connection, survey: &mut Survey) -> Result<(), Failure> {
    let found = read(connection, survey).await?;
    survey.snapshot.findings.extend(found.iter().map(Partly::finding));
    Ok(())
}

/// Finds them by their ConfigMaps and accounts, under the names and labels by which `complete` knows them. Where those may not be
/// listed, nothing is found.
///
/// # Errors
/// When the API server cannot be reached.
pub async fn read(connection: &Connection, survey: &Survey) -> Result<Vec<Partly>, Failure> {
    let mut namespaces = survey.snapshot.control_plane_namespaces();
    if namespaces.is_empty() {
        namespaces.insert(ISTIO_NAMESPACE.to_owned());
    }
    let mut signs: BTreeMap<(String, String), Signs> = BTreeMap::new();
    for namespace in &namespaces {
        let maps = List::of(Resource::ConfigMaps).in_namespace(namespace).with_label(labels::REVISION).metadata(connection);
        let accounts = List::of(ACCOUNTS).in_namespace(namespace).metadata(connection);
        let (maps, accounts) = futures::join!(maps, accounts);
        for map in readable(maps)? {
            let Some(revision) = label(&map, labels::REVISION).filter(|revision| is_own_config_map(&map, revision, namespace))
            else {
                continue;
            };
            let is_mesh_configuration = name(&map) == format!("istio{}", revision_suffix(revision));
            signs.entry((namespace.clone(), revision.to_owned())).or_default().has_configuration |= is_mesh_configuration;
        }
        for account in readable(accounts)? {
            if let Some(revision) = revision_of_account(&account) {
                signs.entry((namespace.clone(), revision.to_owned())).or_default().has_account = true;
            }
        }
    }
    let mut found = Vec::new();
    for ((namespace, revision), signs) in signs {
        if !is_whole(survey, &namespace, &revision) {
            let objects = count(connection, survey, &namespace, &revision).await?;
            found.push(Partly { revision, namespace, signs, objects });
        }
    }
    Ok(found)
}

/// What may be read; nothing where it may not.
fn readable(result: Result<Vec<Value>, Failure>) -> Result<Vec<Value>, Failure> {
    match result {
        Err(failure) if failure.cause.is_tolerable() => Ok(Vec::new()),
        other => other,
    }
}

/// The revision of an account of istiod's, by the name that the charts give it.
fn revision_of_account(account: &Value) -> Option<&str> {
    if label(account, labels::APP) != Some("istiod") {
        return None;
    }
    match name(account).strip_prefix("istiod")? {
        "" => Some(UNREVISIONED),
        suffix => suffix.strip_prefix('-'),
    }
}

/// Whether its control plane is here, or its Service leads to one elsewhere.
fn is_whole(survey: &Survey, namespace: &str, revision: &str) -> bool {
    // A Service and an injector alone are what is left of a control plane, unless it runs elsewhere.
    let mut planes = survey.snapshot.control_planes.iter().filter(|plane| plane.deployment.is_some() || plane.is_elsewhere);
    let service = (namespace.to_owned(), format!("istiod{}", revision_suffix(revision)));
    let service = survey.snapshot.services.get(&service);
    survey.istiods_unread.is_some()
        || planes.any(|plane| plane.namespace == namespace && plane.revision == revision)
        || service.is_some_and(|service| service.is_external || service.readiness == Readiness::Ready)
}

/// How many objects of it `complete` would find.
async fn count(connection: &Connection, survey: &Survey, namespace: &str, revision: &str) -> Result<Option<usize>, Failure> {
    let parts = match consists_of(connection, revision, namespace).await {
        Ok(parts) => parts.len(),
        Err(failure) if failure.cause.is_tolerable() => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let is_own = |injector: &&mesh::injector::Injector| {
        injector.revision.as_deref() == Some(revision) && injector.tag.is_none() && injector.target.namespace() == Some(namespace)
    };
    let injectors: BTreeSet<&str> =
        survey.snapshot.injectors.iter().filter(is_own).map(|injector| injector.configuration.as_str()).collect();
    let validators = List::of(Resource::ValidatingWebhookConfigurations).labelled(labels::REVISION, revision).whole(connection);
    let is_own = |validator: &&Value| {
        label(validator, labels::TAG).is_none()
            && name(validator) != mesh::installation::DEFAULT_VALIDATOR
            && is_of_control_plane(validator, revision, namespace)
    };
    let validators = readable(validators.await)?.iter().filter(is_own).count();
    Ok(Some(parts + injectors.len() + validators))
}

/// The one of these that a way back to `to` leaves: the one named, or the only one.
///
/// # Errors
/// A [`Refusal`] when the one named is not here, or several are.
pub fn left(found: &[Partly], to: &str, named: Option<&str>) -> Result<Option<String>, Refusal> {
    let is_meant = |revision: &&str| *revision != to && named.is_none_or(|named| named == *revision);
    let names: BTreeSet<&str> = found.iter().map(|partly| partly.revision.as_str()).filter(is_meant).collect();
    match (names.len(), named) {
        (0, Some(named)) => {
            let reason = format!("revision {named} is not here, nor anything of it");
            Err(Refusal::not_found(reason, Command::mesh_upgrade("targets")))
        }
        (0 | 1, _) => Ok(names.into_iter().next().map(str::to_owned)),
        _ => {
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            Err(Refusal::new(format!("a part of several revisions is here: {names}"), "say which one with --from"))
        }
    }
}

/// What [`read`] may ask for.
pub fn needs(namespace: &str) -> Needs {
    let lists = Needs::default().prefer(Some(namespace), [("", "configmaps"), ("", "serviceaccounts")], &["list"]);
    lists.and(removal::reading_needs(namespace).optional())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn partly(revision: &str, has_configuration: bool, has_account: bool) -> Partly {
        let signs = Signs { has_configuration, has_account };
        Partly { revision: revision.to_owned(), namespace: "istio-system".to_owned(), signs, objects: Some(3) }
    }

    #[test]
    fn what_is_left_tells_what_came_to_no_end() {
        let told = |configuration, account| partly("1-28-2", configuration, account).finding().message;
        assert_eq!(told(true, false), "partly installed, 3 objects left");
        assert_eq!(told(false, true), "partly removed, 3 objects left");
        assert_eq!(told(true, true), "partly installed or partly removed, 3 objects left");
    }

    #[test]
    fn accounts_of_istiods_name_their_revision() {
        let account = |name: &str, app: &str| json!({"metadata": {"name": name, "labels": {"app": app}}});
        assert_eq!(revision_of_account(&account("istiod-1-28-2", "istiod")), Some("1-28-2"));
        assert_eq!(revision_of_account(&account("istiod", "istiod")), Some("default"));
        for (name, app) in [("istiod-1-28-2", "mine"), ("istio-reader-service-account", "istio-reader"), ("web", "istiod")] {
            assert_eq!(revision_of_account(&account(name, app)), None, "{name}");
        }
    }

    #[test]
    fn the_one_that_is_named_is_left_or_the_only_one() {
        let two = [partly("1-28-2", true, false), partly("1-27-0", true, false)];
        assert_eq!(left(&two[..1], "1-26-0", None), Ok(Some("1-28-2".to_owned())));
        assert_eq!(left(&two, "1-26-0", Some("1-27-0")), Ok(Some("1-27-0".to_owned())));
        assert_eq!(left(&[], "1-26-0", None), Ok(None));
        assert!(left(&two, "1-26-0", None).is_err() && left(&two, "1-26-0", Some("x")).is_err());
    }
}
