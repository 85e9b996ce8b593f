//! People who look at a world that is kept up. What they ask with kubectl, curl or a browser is answered and is no part of
//! what the agent is judged by.

/// Starts of their programs' `User-Agent`.
const PROGRAMS: [&str; 4] = ["kubectl", "curl/", "Wget/", "Mozilla/"];

/// Whether a request with this `User-Agent` comes from a person.
pub(super) fn is_onlooker(user_agent: &str) -> bool {
    PROGRAMS.iter().any(|program| user_agent.starts_with(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_people_are_told_from_agents() {
        assert!(is_onlooker("kubectl/v1.36.3 (linux/amd64) kubernetes/0000000"));
        assert!(is_onlooker("curl/8.5.0"));
        for agent in ["spotwarden/0.1.0", "aws-node-termination-handler/1.25", "Go-http-client/1.1", ""] {
            assert!(!is_onlooker(agent), "{agent}");
        }
    }
}
