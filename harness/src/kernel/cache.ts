/** Kernels at hand: what a SPEC means on this machine, downloaded, unpacked and built where need be (`store.ts` keeps them). */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { release as hostRelease } from "node:os";
import { join, resolve } from "node:path";
import { parseConfig } from "./build/config.ts";
import { debianKernel, patchedKernel, smallKernel } from "./built.ts";
import { KernelError } from "./error.ts";
import { readImage } from "./image.ts";
import { configOfImage } from "./image-config.ts";
import { ModuleTree, moduleRelease } from "./modules.ts";
import { guestLacks } from "./needs.ts";
import type { KernelRole } from "./patches.ts";
import type { KernelSpec } from "./spec.ts";
import { guestModulesOf, type Kernel, lackText, modulesOf, type Progress, sha256 } from "./store.ts";
import { isFolder, readTree, treeProblem } from "./tree.ts";

/** Throws a KernelError where the configuration of a guest's kernel is at hand, and lacks something. */
function checkedGuest(kernel: Kernel): Kernel {
  if (kernel.config === null) return kernel;
  const lacks = guestLacks(parseConfig(kernel.config), kernel.modules.length > 0);
  if (lacks.length > 0) throw new KernelError(`it cannot be a guest: ${lacks.join("; ")}`);
  return kernel;
}

/** A file of the user's, with its modules where some were named. */
function fromFile(
  name: string,
  imagePath: string,
  modulesDirectory: string | null,
  role: KernelRole,
): Kernel {
  const { release } = readImage(imagePath);
  const { modules, nestedModules, pciModules } =
    modulesDirectory === null ? none : ownModules(modulesDirectory, release, role);
  const path = resolve(imagePath);
  return {
    name,
    imagePath: path,
    release,
    modules,
    nestedModules,
    pciModules,
    config: role === "guest" ? configOfImage(path, release) : null,
    origin: path,
    sha256: sha256(readFileSync(path)),
    patches: [],
  };
}

/** A built tree of the user's. Throws a KernelError. */
function fromTree(name: string, folder: string, role: KernelRole): Kernel {
  const problem = treeProblem(folder);
  if (problem !== null) throw new KernelError(`${folder}: ${problem}`);
  const { imagePath, configPath, origin, patches } = readTree(folder);
  const { release } = readImage(imagePath);
  const tree = ModuleTree.ofBuild(resolve(folder));
  const modules = role === "guest" ? checkedGuestModules(tree) : { ...none, modules: modulesOf(tree) };
  const config = role === "guest" ? readFileSync(configPath, "utf8") : null;
  return {
    name,
    imagePath,
    release,
    ...modules,
    config,
    origin,
    sha256: sha256(readFileSync(imagePath)),
    patches,
  };
}

type OwnModules = Pick<Kernel, "modules" | "nestedModules" | "pciModules">;
const none: OwnModules = { modules: [], nestedModules: [], pciModules: [] };

function checkedGuestModules(tree: ModuleTree): OwnModules {
  const { missing, ...own } = guestModulesOf(tree);
  if (missing.length > 0) throw new KernelError(lackText(missing));
  return own;
}

/** Those that are loaded. The kernel would refuse another one's: reported here, before anything is booted. */
function ownModules(directory: string, release: string | null, role: KernelRole): OwnModules {
  const tree = modulesTree(directory, release);
  const found = new ModuleTree(tree);
  const own = role === "guest" ? checkedGuestModules(found) : { ...none, modules: modulesOf(found) };
  const strange = own.modules.find(({ bytes }) => ![null, release].includes(moduleRelease(bytes)));
  if (release !== null && strange !== undefined) {
    const other = moduleRelease(strange.bytes);
    throw new KernelError(`${tree} has modules of ${other} (${strange.name}), the image is of ${release}`);
  }
  return own;
}

/** `make modules_install INSTALL_MOD_PATH=DIR` puts them into DIR/lib/modules/RELEASE: either end of that path is good. */
function modulesTree(directory: string, release: string | null): string {
  const parent = join(directory, "lib/modules");
  if (release === null || !existsSync(parent)) return directory;
  const tree = join(parent, release);
  if (existsSync(tree)) return tree;
  const others = readdirSync(parent).join(", ");
  throw new KernelError(`${parent} has ${others === "" ? "nothing" : others}, the image is of ${release}`);
}

/** The running kernel's image, where distributions put it. */
function fromHost(name: string, role: KernelRole): Kernel {
  const release = hostRelease();
  const places = [`/boot/vmlinuz-${release}`, `/lib/modules/${release}/vmlinuz`];
  const image = places.find(existsSync);
  if (image === undefined) {
    throw new KernelError(
      `the running kernel's image is not on this machine: neither ${places.join(" nor ")} is there ` +
        "(--kernel FILE --modules DIR, if it is somewhere else)",
    );
  }
  const modules = `/lib/modules/${release}`;
  return fromFile(name, image, existsSync(modules) ? modules : null, role);
}

/**
 * The kernel that a SPEC means, at hand. Downloads and unpacks it if it is not in the cache.
 * @param modulesDirectory for images in files: where their modules are, or null if they need none
 * Throws a KernelError, whose message is for the user.
 */
export async function obtainKernel(
  spec: KernelSpec,
  modulesDirectory: string | null,
  signal: AbortSignal = new AbortController().signal,
  role: KernelRole = "under-test",
  progress: Progress = () => {},
): Promise<Kernel> {
  const kernel = await kernelOf({ spec, modulesDirectory, signal, role, progress });
  return role === "guest" ? checkedGuest(kernel) : kernel;
}

type Asked = {
  readonly spec: KernelSpec;
  readonly modulesDirectory: string | null;
  readonly signal: AbortSignal;
  readonly role: KernelRole;
  readonly progress: Progress;
};

function kernelOf({ spec, modulesDirectory, ...asked }: Asked): Kernel | Promise<Kernel> {
  const { role } = asked;
  switch (spec.kind) {
    case "small":
      return smallKernel(spec, asked);
    case "file":
      if (isFolder(spec.path)) return fromTree(spec.text, spec.path, role);
      return fromFile(spec.text, spec.path, modulesDirectory, role);
    case "host":
      return fromHost(spec.text, role);
    case "patched":
      return patchedKernel(spec, asked);
    case "debian-suite":
    case "debian-version":
      return debianKernel(spec, asked);
  }
}
