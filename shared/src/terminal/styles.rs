//! Styles: named for what they stand for, and plain unless colour is wanted. Colour never carries meaning alone.

use clap::ValueEnum;
use owo_colors::Style;

use super::Audience;

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// When a person reads and nothing forbids it
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What the environment says about colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `NO_COLOR` is set, to whatever: as kubectl takes it.
    pub no_color: bool,
    /// `CLICOLOR_FORCE` is set, and not to 0.
    pub force_color: bool,
    /// `TERM` is `dumb`.
    pub is_dumb: bool,
}

/// Whether a stream is coloured: the flag decides, then `NO_COLOR`, then `CLICOLOR_FORCE`, then who reads.
pub fn uses_color(choice: ColorChoice, environment: Environment, audience: Audience) -> Coloring {
    let colored = match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto if environment.no_color => false,
        ColorChoice::Auto if environment.force_color => true,
        ColorChoice::Auto => audience == Audience::Person && !environment.is_dumb,
    };
    if colored { Coloring::Colored } else { Coloring::Plain }
}

/// Whether styles colour anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coloring {
    /// They do.
    Colored,
    /// They do not.
    Plain,
}

/// A style for each thing that has one.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "each style is for the thing of its name")]
pub struct Styles {
    pub orphaned: Style,
    pub stale: Style,
    pub blocked: Style,
    pub unknown: Style,
    pub leaving: Style,
    pub missing: Style,
    pub pinned: Style,
    pub current: Style,
    pub heading: Style,
    pub error: Style,
    pub warning: Style,
    pub hint: Style,
}

impl Styles {
    /// Coloured or plain ones.
    pub fn new(coloring: Coloring) -> Styles {
        match coloring {
            Coloring::Plain => Styles::default(),
            Coloring::Colored => Styles {
                orphaned: Style::new().red().bold(),
                stale: Style::new().yellow(),
                blocked: Style::new().magenta(),
                unknown: Style::new().magenta(),
                leaving: Style::new().cyan(),
                missing: Style::new().cyan(),
                pinned: Style::new().blue(),
                current: Style::new().green(),
                heading: Style::new().bold(),
                error: Style::new().red().bold(),
                warning: Style::new().yellow().bold(),
                hint: Style::new().bold(),
            },
        }
    }

    /// Every style.
    #[cfg(test)]
    pub(super) fn all(self) -> [Style; 12] {
        let Styles { orphaned, stale, blocked, unknown, leaving, missing, pinned, current, heading, error, warning, hint } = self;
        [orphaned, stale, blocked, unknown, leaving, missing, pinned, current, heading, error, warning, hint]
    }
}

#[cfg(test)]
mod tests {
    use owo_colors::OwoColorize;

    use super::*;

    #[test]
    fn plain_styles_add_nothing() {
        for style in Styles::default().all() {
            assert_eq!("x".style(style).to_string(), "x");
        }
    }

    #[test]
    fn the_flag_decides_then_the_environment_then_the_reader() {
        use Audience::{Person, Program};
        use ColorChoice::{Always, Auto, Never};
        let plain = Environment::default();
        let no_color = Environment { no_color: true, force_color: true, ..plain };
        let force = Environment { force_color: true, ..plain };
        let dumb = Environment { is_dumb: true, ..plain };
        let check = |choice, environment, audience, expected: bool| {
            assert_eq!(
                uses_color(choice, environment, audience) == Coloring::Colored,
                expected,
                "{choice:?} {environment:?} {audience:?}"
            );
        };
        check(Auto, plain, Person, true);
        check(Auto, plain, Program, false);
        check(Auto, no_color, Person, false);
        check(Auto, force, Program, true);
        check(Auto, dumb, Person, false);
        check(Always, no_color, Program, true);
        check(Never, force, Person, false);
    }
}
