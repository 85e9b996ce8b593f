//! The files of `monitoring/`: judged by the programs that they are for, and executed by them.

#[cfg(test)]
mod collector;
#[cfg(test)]
mod contents;
#[cfg(test)]
mod route;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod scrape;
#[cfg(test)]
mod trace;
