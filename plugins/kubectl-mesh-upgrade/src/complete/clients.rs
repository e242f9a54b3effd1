//! Clients of a revision that this cluster does not show: whether its istiods know of any.

use mesh::session::Session;
use mesh::terminal::stop::Stop;
use mesh::uses::clients::check_attendance;

use super::CompleteArgs;
use super::sight::Sight;

/// Signs of clients elsewhere forbid a removal, unless the revision's own istiods say that nobody is connected whom this cluster does
/// not show, or the user takes them upon himself. What is worth saying then.
///
/// # Errors
/// A refusal that names every sign, and whom the istiods know.
pub async fn check_clients(session: &mut Session, args: &CompleteArgs, sight: &Sight) -> Result<Option<&'static str>, Stop> {
    let signs = &sight.users.uses.unseen.signs;
    if signs.is_empty() {
        return Ok(None);
    }
    if args.accept_unseen_clients {
        return Ok(Some(
            "clients that this cluster does not show are accepted: they lose their istiod if they use this revision",
        ));
    }
    let connection = session.connect().await?;
    let attendance = sight.users.ask_istiods(&connection).await;
    Ok(Some(check_attendance(&sight.users.departure(), signs, attendance)?))
}
