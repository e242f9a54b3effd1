//! What is installed, and who follows it: pods are counted by their metadata, which costs a fraction of what whole pods cost.

use std::cell::RefCell;
use std::collections::BTreeSet;

use futures::channel::oneshot;

use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::installation::Whole;
use super::list::{Begin, List, Observer, named};
use super::read::Reading;
use super::scope::Scope;
use crate::census::{Census, CensusBuilder};
use crate::installation::Installation;
use crate::labels;
use crate::object::{Metadata, Object, Resource};
use crate::snapshot::Detail;

/// Which pods [`look`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    /// All, for what is stale.
    All,
    /// Those that name a revision or tag themselves: the only ones that follow by their own will.
    Labelled,
}

/// What is installed, and who follows it.
#[derive(Debug)]
pub struct Sight {
    /// What is installed.
    pub installation: Installation,
    /// The pods, counted.
    pub census: Census,
}

/// Reads what is installed, and counts pods by their metadata beside it.
///
/// # Errors
/// When the cluster cannot be reached, or pods cannot be listed: then nobody can say who follows.
pub async fn look(connection: &Connection, istio_namespace: Option<&str>, pods: Pods) -> Result<Sight, Failure> {
    let whole = Whole::default();
    let scope = Scope { istio_namespace: istio_namespace.map(str::to_owned), ..Scope::default() };
    let reading = Reading::new(connection, &scope, Detail::Workloads, &whole);
    // Injectors say by which labels pods have to be counted; everything else is read side by side.
    let (known, keys) = oneshot::channel();
    let injectors = async {
        reading.injectors().await?;
        // The census waits for them, so they always arrive.
        let _ = known.send(reading.builder.borrow().pod_label_keys());
        Ok(())
    };
    let census = async {
        // Without keys the injectors have failed, and that is told.
        let Ok(keys) = keys.await else { return Ok(Census::default()) };
        census(connection, keys, pods).await
    };
    let (others, census) = futures::join!(reading.installation(injectors), census);
    others?;
    let census = census?;
    let snapshot = reading.builder.into_inner().build();
    Ok(Sight { installation: whole.installation(snapshot), census })
}

/// Counts living pods by these labels.
async fn census(connection: &Connection, keys: BTreeSet<String>, pods: Pods) -> Result<Census, Failure> {
    let counting = Counting { census: RefCell::new(CensusBuilder::new(keys)), undecodable: RefCell::default() };
    // Without its status nobody can tell here that a pod has ended, so the server leaves those out.
    let ended = "status.phase!=Succeeded,status.phase!=Failed";
    let mut list = List::of(Resource::Pods).metadata_only().with_fields(ended);
    if pods == Pods::Labelled {
        list = list.with_label(labels::REVISION).selected_by(&format!("{}!=false", labels::INJECT));
    }
    list.read(connection, &counting).await?;
    match counting.undecodable.into_inner() {
        // It may be the one that follows.
        Some(why) => Err(Failure::new("counting pods", Cause::Decode(format!("a pod could not be decoded: {why}")))),
        None => Ok(counting.census.into_inner().build()),
    }
}

struct Counting {
    census: RefCell<CensusBuilder>,
    undecodable: RefCell<Option<String>>,
}

impl Observer for Counting {
    fn object(&self, object: &Object) {
        if let Object::Pod(pod) = object {
            self.census.borrow_mut().add(pod);
        }
    }

    fn undecodable(&self, _list: &List, metadata: Option<&Metadata>, why: &str) {
        *self.undecodable.borrow_mut() = Some(format!("{}{why}", named(metadata)));
    }

    fn restart(&self, _list: &List, _begin: Begin) {
        self.census.borrow_mut().restart();
        *self.undecodable.borrow_mut() = None;
    }
}
