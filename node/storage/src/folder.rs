//! The data folder: `STORE` names format and chain, `LOCK` keeps a second process out.
