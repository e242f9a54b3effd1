//! One command from its first moment to its exit code: what was typed, the connection, the interruption and the terminal,
//! held in one place for everything that the command does.

use std::process::ExitCode;
use std::rc::Rc;

use clap::{CommandFactory, FromArgMatches};
use owo_colors::OwoColorize;

use crate::advice::Advice;
use crate::cluster::Scope;
use crate::cluster::connection::Connection;
use crate::cluster::failure::Failure;
use crate::interruption::Interruption;
use crate::needs::Needs;
use crate::refusal::Refusal;
use crate::terminal::Terminal;
use crate::terminal::advisor::Advisor;
use crate::terminal::exit::Exit;
use crate::terminal::flags::CommonArgs;
use crate::terminal::invocation::parse;
use crate::terminal::notice::Notices;
use crate::terminal::question::{Consent, ask};
use crate::terminal::stop::{Stop, end};
use crate::terminal::writing::DryRun;

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

    /// The verb, such as `set`; empty where a plugin has no verbs.
    fn verb(&self) -> &'static str;

    /// Everything that this command line may ask of the API server. The scope names the context's namespace, and the control
    /// planes' where that was typed.
    ///
    /// # Errors
    /// When the command line or a file that it names makes no sense.
    fn needs(&self, typed: &Scope) -> Result<Needs, Stop>;
}

/// What a command connects for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// It only reads, or asks what a write would do. A write fails before it leaves the process.
    Read,
    /// It writes. From the moment that it connects its output decides nothing any more: see [`Stream`].
    ///
    /// [`Stream`]: crate::terminal::stream::Stream
    Write,
}

impl Intent {
    /// From `--dry-run` of a command that writes.
    pub const fn from_flag(dry_run: bool) -> Intent {
        if dry_run { Intent::Read } else { Intent::Write }
    }
}

impl From<DryRun> for Intent {
    fn from(dry_run: DryRun) -> Intent {
        Intent::from_flag(dry_run != DryRun::None)
    }
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
    let terminal = Terminal::from_environment(&flags);
    let user_agent = format!("kubectl-{}/{VERSION}", plugin.name.replace('-', "_"));
    let interruption = Interruption::listen();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut session = Session {
        command,
        flags,
        interruption: interruption.as_ref().cloned().unwrap_or_default(),
        terminal,
        user_agent,
        connection: None,
    };
    let result = match (runtime, interruption) {
        _ if session.flags.explain_rbac => session.explain(&arguments, plugin),
        (Ok(runtime), Ok(_)) => {
            let result = runtime.block_on(session.run(&arguments, run));
            // A look-up of a name that hangs is not waited for.
            runtime.shutdown_background();
            result
        }
        (Err(error), _) | (_, Err(error)) => {
            Err(Stop::Message(format!("this program cannot start: the operating system refuses: {error}")))
        }
    };
    end(result, &session.command, session.interruption.writes(), &mut session.terminal).into()
}

impl Session {
    /// Runs the command until it ends, or until an interruption takes effect.
    async fn run<A>(
        &mut self,
        arguments: &A,
        run: impl AsyncFnOnce(&mut Session, &A) -> Result<Exit, Stop>,
    ) -> Result<Exit, Stop> {
        let interruption = self.interruption.clone();
        tokio::select! {
            biased;
            result = run(self, arguments) => result,
            () = interruption.takes_effect() => Err(Stop::Interrupted(interruption.writes().unfinished())),
        }
    }

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

    /// As [`Session::connect`], for a command that writes, unless it only shows what it would write.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub async fn connect_for(&mut self, intent: Intent) -> Result<Rc<Connection>, Stop> {
        if intent == Intent::Write {
            self.interruption.writes().allow();
            self.terminal.endure();
        }
        self.connect().await
    }

    /// Connects to one context of several; the current one when `None`.
    ///
    /// # Errors
    /// As [`crate::cluster::connection::ConnectionArgs::connect`].
    pub async fn connect_to(&self, context: Option<&str>) -> Result<Connection, Failure> {
        let mut connection = self.flags.connection.connect(context, &self.user_agent, &self.interruption).await?;
        let notices = Notices::of(&self.terminal);
        connection.waiting = connection.waiting.announcing(move |line| notices.write(line));
        Ok(connection)
    }

    /// What is to be said if the command is interrupted from here on, once it has written something.
    pub fn if_interrupted(&self, unfinished: Refusal) {
        let advice = self.terminal.advisor.text(&unfinished.advice);
        self.interruption.writes().if_interrupted_next(unfinished, advice);
    }

    /// Asks the user to agree before something is changed.
    ///
    /// # Errors
    /// As [`ask`].
    pub async fn ask(&mut self, question: &str, consent: Consent) -> Result<(), Stop> {
        let is_changed = self.interruption.writes().is_something_changed();
        let so_far = if is_changed { "nothing more was changed" } else { "nothing was changed" };
        ask(&mut self.terminal, question, consent, so_far).await
    }

    /// The namespace of the control planes, where it was given.
    pub fn istio_namespace(&self) -> Option<&str> {
        self.flags.istio_namespace.as_deref()
    }

    /// Words commands in advice so that they reach the same cluster.
    pub fn advisor(&self) -> Advisor {
        self.terminal.advisor.clone()
    }

    /// Answers `--explain-rbac`: the rules for everything that the command line may ask for.
    fn explain(&mut self, arguments: &impl Arguments, plugin: Plugin) -> Result<Exit, Stop> {
        let needs = arguments.needs(&self.flags.typed_scope())?;
        let name = format!("{}-{}", plugin.name, arguments.verb());
        self.terminal.out.write_all(needs.manifest(name.trim_end_matches('-')).as_bytes())?;
        Ok(Exit::Done)
    }

    /// Ends a dry run: that nothing was changed, and how it is done in earnest.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn conclude_dry_run(&mut self, dry_run: DryRun) -> Result<(), Stop> {
        let what = if dry_run == DryRun::Server { "Server dry run" } else { "Dry run" };
        let hint = self.terminal.err_styles.hint;
        writeln!(self.terminal.err, "{what}: nothing was changed. {} the same command without --dry-run", "Next:".style(hint))?;
        Ok(())
    }

    /// Says which command comes next.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tell_next(&mut self, next: impl Into<Advice>) -> Result<(), Stop> {
        let next = self.terminal.advisor.text(&next.into());
        let hint = self.terminal.err_styles.hint;
        writeln!(self.terminal.err, "{} {next}", "Next:".style(hint))?;
        Ok(())
    }
}
