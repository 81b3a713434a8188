//! Pure: what `systemctl show` says of a unit's sandbox, as `systemd-run --property` takes it.

/// What is asked of a unit. All of these are printed in the form in which they are set, but for those that [`passed_on`]
/// names.
pub(super) const PROPERTIES: &[&str] = &[
    "User",
    "Group",
    "SupplementaryGroups",
    "UMask",
    "WorkingDirectory",
    "RootDirectory",
    "RootImage",
    "Environment",
    "EnvironmentFiles",
    "PassEnvironment",
    "UnsetEnvironment",
    "LimitNOFILE",
    "LimitNOFILESoft",
    "LimitMEMLOCK",
    "LimitMEMLOCKSoft",
    "LimitNPROC",
    "LimitNPROCSoft",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "NoNewPrivileges",
    "SecureBits",
    "ProtectSystem",
    "ProtectHome",
    "ProtectProc",
    "ProcSubset",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "ProtectClock",
    "ProtectHostname",
    "PrivateTmp",
    "PrivateDevices",
    "PrivateNetwork",
    "PrivateUsers",
    "NetworkNamespacePath",
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "ExecPaths",
    "NoExecPaths",
    "BindPaths",
    "BindReadOnlyPaths",
    "TemporaryFileSystem",
    "RuntimeDirectory",
    "StateDirectory",
    "CacheDirectory",
    "LogsDirectory",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "SystemCallFilter",
    "SystemCallErrorNumber",
    "SystemCallArchitectures",
    "IPAddressAllow",
    "IPAddressDeny",
    "AppArmorProfile",
    "SELinuxContext",
    "DynamicUser",
];

/// Where the unit's own directories lie. They are handed on as paths that may be written: a transient unit that owned
/// them would remove the runtime directory of the running one at its end.
const DIRECTORIES: &[(&str, &str)] = &[
    ("RuntimeDirectory", "/run"),
    ("StateDirectory", "/var/lib"),
    ("CacheDirectory", "/var/cache"),
    ("LogsDirectory", "/var/log"),
];

/// A unit's sandbox.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sandbox {
    /// Each as `NAME=VALUE`.
    pub(super) properties: Vec<String>,
    /// Names of what can't be handed on.
    pub(super) left_out: Vec<String>,
}

/// Out of what `systemctl show UNIT --property=…` printed, whose first line is `LoadState`. A unit that isn't loaded has
/// no sandbox.
pub(super) fn passed_on(unit: &str, shown: &str) -> Sandbox {
    let mut found = Sandbox::default();
    let pairs: Vec<(&str, &str)> = shown
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let value = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, v)| *v);
    if value("LoadState") != Some("loaded") {
        return found;
    }
    for (name, text) in &pairs {
        match *name {
            "LoadState" => {}
            _ if is_default(name, text) => {}
            _ if *text == "[unprintable]" => found.left_out.push((*name).to_owned()),
            // Its user exists while the unit runs, and its directories lie elsewhere.
            "DynamicUser" => found.left_out.push((*name).to_owned()),
            "EnvironmentFiles" => found.properties.push(environment_file(text)),
            _ if name.ends_with("Soft") => {}
            _ if name.starts_with("Limit") => {
                let soft = value(&format!("{name}Soft")).unwrap_or(text);
                found.properties.push(format!("{name}={soft}:{text}"));
            }
            _ => match DIRECTORIES.iter().find(|(key, _)| key == name) {
                Some((_, base)) => found.properties.extend(writable(base, text)),
                None => found.properties.push(format!("{name}={text}")),
            },
        }
    }
    let shares = ["PrivateTmp", "PrivateNetwork"];
    if shares
        .iter()
        .any(|name| value(name).is_some_and(|text| text != "no"))
    {
        // The same /tmp and the same network, not another private one.
        found.properties.push(format!("JoinsNamespaceOf={unit}"));
    }
    found
}

/// Set to nothing: as a transient unit is without it.
fn is_default(name: &str, text: &str) -> bool {
    match name {
        "UMask" => text == "0022",
        "ProtectProc" => text == "default",
        "ProcSubset" => text == "all",
        "SecureBits" | "SystemCallErrorNumber" => ["0", "2147483646"].contains(&text),
        _ => ["", "no", "~"].contains(&text),
    }
}

/// Printed as `/etc/default/nginx (ignore_errors=yes)`.
fn environment_file(text: &str) -> String {
    let (path, mark) = text.split_once(" (ignore_errors=").unwrap_or((text, "no)"));
    let optional = if mark.starts_with("yes") { "-" } else { "" };
    format!("EnvironmentFile={optional}{path}")
}

/// Printed as a list of names below `base`, each perhaps with a second name after a colon.
fn writable(base: &str, text: &str) -> Vec<String> {
    text.split_whitespace()
        .filter_map(|name| name.split(':').next())
        .map(|name| format!("ReadWritePaths=-{base}/{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(shown: &str) -> Vec<String> {
        passed_on("nginx.service", &format!("LoadState=loaded\n{shown}")).properties
    }

    #[test]
    fn a_unit_without_a_sandbox_has_none_to_hand_on() {
        let debian = "User=\nGroup=\nUMask=0022\nProtectSystem=no\nPrivateTmp=no\nProtectProc=default\nProcSubset=all\n\
                      SystemCallFilter=\nSystemCallErrorNumber=2147483646\nSecureBits=0\nIPAddressDeny=\n";
        assert_eq!(properties(debian), Vec::<String>::new());
        let absent = "LoadState=not-found\nProtectSystem=strict\n";
        assert_eq!(passed_on("nginx.service", absent), Sandbox::default());
    }

    #[test]
    fn a_sandbox_is_handed_on_as_it_was_set() {
        let shown = "ProtectSystem=strict\nReadWritePaths=/var/log/nginx -/nonexistent\n\
                     CapabilityBoundingSet=cap_chown cap_setuid\nEnvironment=FOO=bar \"SPACE=a b\"\n\
                     RestrictNamespaces=net\n";
        assert_eq!(
            properties(shown),
            [
                "ProtectSystem=strict",
                "ReadWritePaths=/var/log/nginx -/nonexistent",
                "CapabilityBoundingSet=cap_chown cap_setuid",
                "Environment=FOO=bar \"SPACE=a b\"",
                "RestrictNamespaces=net",
            ]
        );
    }

    #[test]
    fn what_is_printed_otherwise_than_it_is_set_is_turned_back() {
        assert_eq!(
            properties(
                "LimitNOFILE=12345\nLimitNOFILESoft=1024\n\
                 EnvironmentFiles=/etc/default/nginx (ignore_errors=yes)\n\
                 EnvironmentFiles=/etc/nginx env (ignore_errors=no)\n"
            ),
            [
                "LimitNOFILE=1024:12345",
                "EnvironmentFile=-/etc/default/nginx",
                "EnvironmentFile=/etc/nginx env",
            ]
        );
    }

    #[test]
    fn its_own_directories_may_be_written_and_are_never_owned() {
        assert_eq!(
            properties("RuntimeDirectory=nginx cache/a\nLogsDirectory=nginx:old\n"),
            [
                "ReadWritePaths=-/run/nginx",
                "ReadWritePaths=-/run/cache/a",
                "ReadWritePaths=-/var/log/nginx",
            ]
        );
    }

    #[test]
    fn its_private_tmp_is_shared() {
        assert_eq!(
            properties("PrivateTmp=yes\n"),
            ["PrivateTmp=yes", "JoinsNamespaceOf=nginx.service"]
        );
    }

    #[test]
    fn what_cannot_be_handed_on_is_named() {
        let shown =
            "LoadState=loaded\nEnvironment=[unprintable]\nDynamicUser=yes\nProtectHome=yes\n";
        let found = passed_on("nginx.service", shown);
        assert_eq!(found.left_out, ["Environment", "DynamicUser"]);
        assert_eq!(found.properties, ["ProtectHome=yes"]);
    }
}
