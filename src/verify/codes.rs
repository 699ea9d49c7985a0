//! Enums of codes for programs: each with the word that stands for it in reports.

/// Declares such an enum.
macro_rules! codes {
    ($(#[$outer:meta])* $enum:ident { $($(#[$doc:meta])* $name:ident = $text:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        pub enum $enum {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl $enum {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as it stands in reports.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

pub(crate) use codes;
