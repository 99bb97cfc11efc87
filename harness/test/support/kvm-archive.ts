/** An archive with a kernel whose KVM can be compiled in a second: an apt that is a shell script, packages, and a kbuild of a few rules. */
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { bootImage, neededModules, writeModules } from "./kernels.ts";

export const RELEASE = "6.99.0-1-amd64";
export const VERSION = "6.99.5-1";
const COMMON = "linux-headers-6.99.0-1-common";

const aptGet = `#!/bin/sh
echo "$*" >> "$MIRROR/calls"
case "$*" in
*indextargets*) printf 'http://mirror.invalid/\\tstable\\tDebian\\tDebian\\tmain\\n' ;;
*" update") [ ! -e "$MIRROR/unreachable" ] || {
    echo "E: Failed to fetch http://mirror.invalid/InRelease  Could not connect to mirror.invalid:80" >&2
    exit 100
  } ;;
*" download "*)
  [ ! -e "$MIRROR/hangs-download" ] || { touch "$MIRROR/reached-download"; (while :; do : > x.part; done); }
  for word; do case "$word" in *=*) name=\${word%%=*}; [ ! -e "$MIRROR/$name.deb" ] || cp "$MIRROR/$name.deb" . ;; esac; done
  ;;
esac
`;

/** Waits before it compiles, where the test says so. */
const gcc = `#!/bin/sh
[ ! -e "$MIRROR/hangs" ] || { touch "$MIRROR/compiling"; sleep 60; }
exec /usr/bin/gcc "$@"
`;

/** As kbuild does: an object is made again where its source or a header is newer, or its command, which has paths in it, is another one. */
const makefile = `common := $(dir $(lastword $(MAKEFILE_LIST)))
modules: $(M)/kvm.ko $(M)/kvm-amd.ko $(M)/kvm-intel.ko
$(M)/kvm.o: $(common)virt/kvm/kvm_main.c FORCE
$(M)/kvm-amd.o: $(common)arch/x86/kvm/amd.c FORCE
$(M)/kvm-intel.o: $(common)arch/x86/kvm/intel.c FORCE
$(M)/%.o:
	@if [ $< -nt $@ ] || [ $(common)include/linux/kvm_host.h -nt $@ ] || [ "$$(cat $(M)/.$*.o.cmd)" != "gcc $<" ]; then \\
	  echo "  CC [M]  $@"; gcc -I$(common)include -c -o $@ $< && echo "gcc $<" > $(M)/.$*.o.cmd; fi
$(M)/%.ko: $(M)/%.o
	@echo "  LD [M]  $@"; cp $< $@
FORCE:
.PHONY: FORCE prepare run-command
build := -f $(common)host.mk obj
prepare:
	@echo "CC=$(CC) NEW=$(CONFIG_CC_HAS_NEW) OLD=$(CONFIG_CC_HAS_OLD)" > $(MIRROR)/variables
run-command:
	@$(KBUILD_RUN_COMMAND)
`;

/** Kbuild's rules for programs of this machine, and what they make. */
const hostRules = `$(obj)/modpost: $(obj)/modpost.c
	@echo "  HOSTCC  $@"; gcc -I$(obj) -o $@ $<
`;
const toolSources = {
  "scripts/mod/modpost.c":
    '#include "../../include/linux/kvm_host.h"\nint main(void) { return SHARED - 1; }\n',
  "scripts/include/list.h": "",
  "tools/objtool/Makefile": "objtool:\n\techo '#!/bin/sh' > objtool; chmod +x objtool\n",
  ...Object.fromEntries(
    ["lib", "include", "arch", "build", "scripts"].map((name) => [`tools/${name}/x`, ""]),
  ),
  "arch/Kconfig": "config CC_HAS_NEW\n\tdef_bool $(cc-option,-fof-a-later-gcc)\n\nconfig X\n\tbool\n",
  "arch/x86/Kconfig": "config CC_HAS_OLD\n\tdef_bool $(cc-option, -O2 -Wa$(comma)-g)\n",
  "init/Kconfig": "config CC_HAS_OFF\n\tdef_bool $(cc-option,-fof-a-later-gcc)\n",
  "lib/Kconfig.debug": "",
};

/** As of a newer Debian, where the test says so. */
const foreignProgram = (name: string): string => `#!/bin/sh
[ ! -e "$MIRROR/foreign" ] || { echo "${name}: libc.so.6: version \\\`GLIBC_2.99' not found (required by ${name})" >&2; exit 1; }
`;

const sources = {
  "virt/kvm/kvm_main.c": '#include "linux/kvm_host.h"\nint main_value = 1;\n',
  "arch/x86/kvm/amd.c": '#include "linux/kvm_host.h"\nint amd_value = SHARED;\n',
  "arch/x86/kvm/intel.c": '#include "linux/kvm_host.h"\nint intel_value = SHARED;\n',
  "mm/gup.c": "int gup;\n",
};

/** A change of one line of the sources. */
export function changeOf(path: string, from: string, to: string): string {
  return `--- a/${path}\n+++ b/${path}\n@@ -2 +2 @@\n-${from}\n+${to}\n`;
}

/** What compiles, in one source. */
export const goodPatch: string = changeOf(
  "virt/kvm/kvm_main.c",
  "int main_value = 1;",
  "int main_value = 2;",
);

type Package = {
  readonly name: string;
  readonly architecture?: "all" | "amd64";
  readonly depends?: string;
  readonly installedKiB?: number;
};

/** In the place of a program: writes to the tree of a package for ever, from a process of its own, or does what it is to do. */
const hanging = (program: string): string => `#!/bin/sh
[ -e "$MIRROR/hangs-${program}" ] || exec /usr/bin/${program} "$@"
touch "$MIRROR/reached-${program}"
(while :; do mkdir -p -- "$3/x" "$PWD/x"; touch "$PWD/x/y"; done) 2> /dev/null
`;

/** By name: packing them takes longer than most tests. */
const packed = new Map<string, Uint8Array>();

export class KvmArchive {
  readonly mirror: string;
  readonly bin: string;
  #stanzas = "";

  /** @param folder of the test; PATH, MIRROR and XDG_CACHE_HOME are the test's to set */
  constructor(folder: string) {
    this.mirror = join(folder, "mirror");
    this.bin = join(folder, "bin");
    for (const path of [this.mirror, this.bin]) mkdirSync(path);
    for (const [name, text] of [
      ["apt-get", aptGet],
      ["apt-cache", '#!/bin/sh\n/bin/cat "$MIRROR/stanzas"\n'],
      ["gcc", gcc],
    ] as const) {
      writeFileSync(join(this.bin, name), text);
      chmodSync(join(this.bin, name), 0o755);
    }
    symlinkSync("/bin/true", join(this.bin, "x86_64-linux-gnu-gcc-99"));
  }

  /** Has a program hang from now on; what is returned ends that. `reached-PROGRAM` on the mirror says that it has been called. */
  hang(program: string): () => void {
    const path = join(this.bin, program);
    if (!existsSync(path)) writeFileSync(path, hanging(program), { mode: 0o755 });
    const mark = join(this.mirror, `hangs-${program}`);
    writeFileSync(mark, "");
    return () => rmSync(mark);
  }

  /** Publishes a package; `fill` writes its files, which are the same for all packages of a name. */
  #pack(
    { name, architecture = "all", depends, installedKiB = 100 }: Package,
    fill: (tree: string) => void,
  ): void {
    const control = [`Package: ${name}`, `Version: ${VERSION}`, `Architecture: ${architecture}`];
    const path = join(this.mirror, `${name}.deb`);
    const bytes = packed.get(name) ?? this.#packed(path, control, fill);
    packed.set(name, bytes);
    writeFileSync(path, bytes);
    const numbers = [`Installed-Size: ${installedKiB}`, "Size: 1000", `SHA256: ${"a".repeat(64)}`];
    const needs = depends === undefined ? [] : [`Depends: ${depends}`];
    this.#stanzas += `${[...control, ...needs, ...numbers].join("\n")}\n\n`;
    writeFileSync(join(this.mirror, "stanzas"), this.#stanzas);
  }

  #packed(path: string, control: readonly string[], fill: (tree: string) => void): Uint8Array {
    const tree = join(this.mirror, "tree");
    mkdirSync(join(tree, "DEBIAN"), { recursive: true });
    fill(tree);
    const rest = ["Maintainer: Nobody <nobody@localhost>", "Description: for tests", ""];
    writeFileSync(join(tree, "DEBIAN/control"), [...control, ...rest].join("\n"));
    execFileSync("dpkg-deb", ["--root-owner-group", "-Znone", "-b", tree, path]);
    rmSync(tree, { recursive: true });
    return readFileSync(path);
  }

  #write(tree: string, files: Readonly<Record<string, string>>): void {
    for (const [name, text] of Object.entries(files)) {
      const path = join(tree, name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text, { mode: text.startsWith("#!") ? 0o755 : 0o644 });
    }
  }

  publishImage(): void {
    this.#pack({ name: `linux-image-${RELEASE}`, architecture: "amd64" }, (tree) => {
      mkdirSync(join(tree, "boot"));
      writeFileSync(join(tree, "boot", `vmlinuz-${RELEASE}`), bootImage({ release: RELEASE }));
      const kvm = { "arch/x86/kvm/kvm.ko": [], "arch/x86/kvm/kvm-amd.ko": ["depends=kvm"] };
      writeModules(join(tree, "lib/modules", RELEASE), RELEASE, { ...neededModules, ...kvm });
    });
  }

  /** @param installedKiB what the sources say that they take */
  publishSources(installedKiB = 100): void {
    const depends = `gcc-99, ${COMMON} (= ${VERSION}), linux-kbuild-6.99.0-1`;
    this.#pack({ name: `linux-headers-${RELEASE}`, architecture: "amd64", depends }, (tree) =>
      this.#write(tree, {
        [`usr/src/linux-headers-${RELEASE}/.kernelvariables`]: "CC = $(X)gcc-99\n",
        [`usr/src/linux-headers-${RELEASE}/.config`]: "CONFIG_CC_HAS_NEW=y\nCONFIG_CC_HAS_OLD=y\n",
        [`usr/src/linux-headers-${RELEASE}/scripts/mod/modpost`]: foreignProgram("modpost"),
        [`usr/src/linux-headers-${RELEASE}/tools/objtool/objtool`]: foreignProgram("objtool"),
      }),
    );
    this.#pack({ name: COMMON }, (tree) =>
      this.#write(tree, {
        [`usr/src/${COMMON}/Makefile`]: makefile,
        [`usr/src/${COMMON}/host.mk`]: hostRules,
        [`usr/src/${COMMON}/include/linux/kvm_host.h`]: "#pragma once\n#define SHARED 1\n",
        "usr/share/doc/x": "",
      }),
    );
    this.#pack({ name: "linux-kbuild-6.99.0-1", architecture: "amd64" }, (tree) =>
      this.#write(tree, { "usr/lib/linux-kbuild-6.99.0-1/scripts/x": "" }),
    );
    this.#pack({ name: "linux-source-6.99", installedKiB }, (tree) => {
      const top = join(tree, "usr/src/linux-source-6.99");
      this.#write(top, { ...sources, ...toolSources });
      execFileSync("tar", ["-cJf", `${top}.tar.xz`, "-C", dirname(top), "linux-source-6.99"]);
      rmSync(top, { recursive: true });
    });
  }
}
