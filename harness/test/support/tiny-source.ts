/** A source package of three files for tests of builds: made by the real make, in a second. */
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Of a kernel: configurations, and objects one after the other. `KIND` is replaced, and `IMAGE`. */
const makefile = `tinyconfig:
	@echo "CONFIG_TINY=y" > $(O)/.config
olddefconfig:
	@grep -v CONFIG_GONE $(O)/.config > $(O)/new; mv $(O)/new $(O)/.config
bzImage:
	@echo "  CC      init/main.o"
	@echo "  CC      fs/dax.o"
	@KIND
	@mkdir -p $(O)/arch/x86/boot
	@IMAGE > $(O)/arch/x86/boot/bzImage
`;
const mergeConfig = '#!/bin/sh\ncat "$5" >> "$4"\n';

export type TinySource = {
  /** `linux-source-6.99`: the folder at the archive's top. */
  readonly name: string;
  /** The shell command of the last object. */
  readonly kind: string;
  /** The one that writes the image to standard output. */
  readonly image: string;
};

/** Writes `NAME.tar.xz` into the folder; returns its path. */
export function writeTinySource(folder: string, { name, kind, image }: TinySource): string {
  const top = join(folder, name);
  for (const path of ["scripts/kconfig", "Documentation/mm"]) mkdirSync(join(top, path), { recursive: true });
  writeFileSync(
    join(top, "Makefile"),
    makefile.replace("KIND", () => kind).replace("IMAGE", () => image),
  );
  writeFileSync(join(top, "Documentation/Kconfig"), "");
  writeFileSync(join(top, "Documentation/mm/index.rst"), "");
  const merge = join(top, "scripts/kconfig/merge_config.sh");
  writeFileSync(merge, mergeConfig);
  chmodSync(merge, 0o755);
  const path = join(folder, `${name}.tar.xz`);
  execFileSync("tar", ["-cJf", path, "-C", folder, name]);
  rmSync(top, { recursive: true });
  return path;
}
