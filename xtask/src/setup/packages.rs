//! The Debian packages, each with its reason and how to see that it is not needed.

use std::path::Path;
use std::process::Command;

use crate::command;
use crate::setup::Purpose;

/// A package that may have to be installed.
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) why: &'static str,
    pub(super) purpose: Purpose,
    sign: Sign,
}

/// What shows that the package's job is done, whoever installed it.
enum Sign {
    /// All of these programs are on the path.
    Programs(&'static [&'static str]),
    /// One of these files exists.
    AnyFile(&'static [&'static str]),
    /// Only the package itself will do.
    Installed,
}

impl Package {
    pub(super) fn is_there(&self) -> bool {
        match self.sign {
            Sign::Programs(programs) => programs.iter().all(|program| command::on_path(program)),
            Sign::AnyFile(files) => files.iter().any(|file| Path::new(file).exists()),
            Sign::Installed => is_installed(self.name),
        }
    }
}

/// True if dpkg has the package fully installed.
pub(super) fn is_installed(name: &str) -> bool {
    command::capture(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", name]))
        .is_ok_and(|status| status == "installed")
}

pub(super) const PACKAGES: &[Package] = &[
    Package {
        name: "containerd",
        why: "the container engine (Wherry starts one of its own and leaves the host's alone)",
        purpose: Purpose::Demo,
        sign: Sign::Programs(&["containerd", "containerd-shim-runc-v2", "ctr"]),
    },
    Package {
        name: "runc",
        why: "starts single containers for containerd",
        purpose: Purpose::Demo,
        sign: Sign::Programs(&["runc"]),
    },
    Package {
        name: "crun",
        why: "does the same in half the time",
        purpose: Purpose::Demo,
        sign: Sign::Programs(&["crun"]),
    },
    Package {
        name: "git",
        why: "fetches what git volumes hold",
        purpose: Purpose::Demo,
        sign: Sign::Programs(&["git"]),
    },
    Package {
        name: "containernetworking-plugins",
        why: "gives each instance its own address",
        purpose: Purpose::Demo,
        sign: Sign::AnyFile(&["/usr/lib/cni/ptp", "/opt/cni/bin/ptp"]),
    },
    Package {
        name: "nftables",
        why: "keeps tenants apart on the network",
        purpose: Purpose::Demo,
        sign: Sign::Programs(&["nft"]),
    },
    Package {
        name: "iproute2",
        why: "network namespaces and routes",
        purpose: Purpose::Demo,
        sign: Sign::Programs(&["ip"]),
    },
    Package {
        name: "busybox-static",
        why: "content of the demo images (takes the place of the package busybox)",
        purpose: Purpose::Demo,
        sign: Sign::Installed,
    },
    Package {
        name: "nginx",
        why: "content of the demo image `nginx`; the service stays off",
        purpose: Purpose::Demo,
        sign: Sign::AnyFile(&["/usr/sbin/nginx"]),
    },
    Package {
        name: "docker-registry",
        why: "serves the demo images on loopback, so that pulls are real; the service stays off",
        purpose: Purpose::Demo,
        sign: Sign::Programs(&["docker-registry"]),
    },
    Package {
        name: "postgresql",
        why: "the second store: tests and demos start clusters of their own; the service stays off",
        purpose: Purpose::Demo,
        sign: Sign::AnyFile(&[
            "/usr/lib/postgresql/14/bin/initdb",
            "/usr/lib/postgresql/15/bin/initdb",
            "/usr/lib/postgresql/16/bin/initdb",
            "/usr/lib/postgresql/17/bin/initdb",
            "/usr/lib/postgresql/18/bin/initdb",
        ]),
    },
    Package {
        name: "gcc",
        why: "compiles the sandbox's pause program and the C parts of dependencies",
        purpose: Purpose::Demo,
        sign: Sign::Programs(&["cc"]),
    },
    Package {
        name: "libc6-dev",
        why: "C headers for the same",
        purpose: Purpose::Demo,
        sign: Sign::AnyFile(&["/usr/include/stdio.h"]),
    },
    Package {
        name: "prometheus",
        why: "its promtool checks the alert rules; the service stays off",
        purpose: Purpose::Test,
        sign: Sign::Programs(&["promtool"]),
    },
    Package {
        name: "mmdebstrap",
        why: "makes the clean Debian in which the package is tried",
        purpose: Purpose::Ci,
        sign: Sign::Programs(&["mmdebstrap"]),
    },
    Package {
        name: "python3-venv",
        why: "a Python environment for schemathesis, which attacks the API from its own document",
        purpose: Purpose::Test,
        sign: Sign::Installed,
    },
];
