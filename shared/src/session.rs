//! One command from its first moment to its exit code: what was typed, the connection, the interruption and the terminal,
//! held in one place for everything that the command does.

use std::process::ExitCode;
use std::rc::Rc;

use clap::{CommandFactory, FromArgMatches};
use owo_colors::OwoColorize;

use crate::cluster::access::{Permission, manifest};
use crate::cluster::connection::Connection;
use crate::cluster::failure::Failure;
use crate::terminal::Terminal;
use crate::terminal::advisor::Advisor;
use crate::terminal::exit::Exit;
use crate::terminal::flags::CommonArgs;
use crate::terminal::interruption::Interruption;
use crate::terminal::invocation::parse;
use crate::terminal::notice::Notices;
use crate::terminal::stop::{Stop, end};

/// The version of the plugins: all of them have the same.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One of the plugins.
#[derive(Clone, Copy, Debug)]
pub struct Plugin {
    /// Its name behind `kubectl`, such as `mesh-tag`.
    pub name: &'static str,
    /// The examples at the end of its help.
    pub examples: &'static str,
}

/// What a plugin takes on its command line.
pub trait Arguments: CommandFactory + FromArgMatches {
    /// The flags that every plugin has.
    fn common(&self) -> &CommonArgs;
}

/// A command that runs: what every verb is given.
pub struct Session {
    /// The command's name as it was typed: `kubectl mesh-upgrade`.
    pub command: String,
    /// The flags of every command.
    pub flags: CommonArgs,
    /// Whether the user has asked to stop. Everything that the command does sees the same one.
    pub interruption: Interruption,
    /// Where everything is written to.
    pub terminal: Terminal,
    user_agent: String,
    connection: Option<Rc<Connection>>,
}

/// The `main` of a plugin: reads the command line, runs what it asks for, and says how that ended.
pub fn entry<A: Arguments>(plugin: Plugin, run: impl AsyncFnOnce(&mut Session, &A) -> Result<Exit, Stop>) -> ExitCode {
    let (arguments, command): (A, String) = parse(std::env::args_os(), &format!("kubectl {}", plugin.name), plugin.examples);
    let flags = arguments.common().clone();
    let mut terminal = Terminal::from_environment(flags.color);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let stop = Stop::Message(format!("the runtime of this program cannot start: {error}"));
            return end(Err(stop), &command, &mut terminal).into();
        }
    };
    runtime.block_on(async {
        let user_agent = format!("kubectl-{}/{VERSION}", plugin.name.replace('-', "_"));
        let interruption = Interruption::listen();
        let mut session = Session { command, flags, interruption, terminal, user_agent, connection: None };
        let result = run(&mut session, &arguments).await;
        end(result, &session.command, &mut session.terminal).into()
    })
}

impl Session {
    /// Connects to the one cluster that the command is about. It is the same connection whoever asks: the context is
    /// resolved once.
    ///
    /// # Errors
    /// [`Stop::Usage`] when several contexts were given: one cluster is looked at and changed at a time.
    pub async fn connect(&mut self) -> Result<Rc<Connection>, Stop> {
        if let Some(connection) = &self.connection {
            return Ok(Rc::clone(connection));
        }
        let contexts = self.flags.connection.contexts();
        let [context] = &contexts[..] else {
            return Err(Stop::Usage("this command is about one cluster at a time: give one --context".to_owned()));
        };
        let connection = Rc::new(self.connect_to(context.as_deref()).await?);
        self.connection = Some(Rc::clone(&connection));
        Ok(connection)
    }

    /// Connects to one context of several; the current one when `None`.
    ///
    /// # Errors
    /// As [`crate::cluster::connection::ConnectionArgs::connect`].
    pub async fn connect_to(&self, context: Option<&str>) -> Result<Connection, Failure> {
        let mut connection = self.flags.connection.connect(context, &self.user_agent).await?;
        let notices = Notices::of(&self.terminal);
        connection.waiting = connection.waiting.announcing(move |line| notices.write(line));
        Ok(connection)
    }

    /// The namespace of the control planes, where it was given.
    pub fn istio_namespace(&self) -> Option<&str> {
        self.flags.istio_namespace.as_deref()
    }

    /// Words commands in advice so that they reach the same cluster.
    pub fn advisor(&self) -> Advisor {
        self.flags.advisor()
    }

    /// Answers `--explain-rbac`: the rules that the command called `name` needs.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn explain(&mut self, needed: &[Permission], name: &str) -> Result<Exit, Stop> {
        self.terminal.out.write_all(manifest(needed, name).as_bytes())?;
        Ok(Exit::Done)
    }

    /// Says which command comes next.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tell_next(&mut self, command: &str) -> Result<(), Stop> {
        let hint = self.terminal.err_styles.hint;
        writeln!(self.terminal.err, "{} {command}", "Next:".style(hint))?;
        Ok(())
    }
}
