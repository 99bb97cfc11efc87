/**
 * Kernels of Debian's archive, by apt's own means: the machine's apt configuration decides mirror, keys and proxy,
 * and nothing here names a host. Suites that are not among the machine's sources are read with a
 * configuration of our own, derived from them; the machine's own lists are never touched, and no root is needed.
 * apt checks signatures and checksums; the checksum of the index is kept with what was downloaded.
 */
import { existsSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errorText } from "../error-text.ts";
import { KernelError } from "./error.ts";
import { runGroup, textOf } from "./group.ts";

const COMMAND_BOUND_MS = 300_000;
/** An index is asked for again after this long. */
export const INDEX_LIFE_MS: number = 24 * 60 * 60 * 1000;
/** Where apt's packages of Debian put the archive's keys. */
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** The suites that are looked through for a version, the machine's own first. */
export const OWN_SUITES = "own";
export const searchedSuites: readonly string[] = [
  OWN_SUITES,
  "stable-backports",
  "stable",
  "oldstable",
  "oldoldstable",
  "sid",
  // Release candidates: what comes next.
  "experimental",
];

/** A kernel package of a suite. */
export type KernelPackage = {
  readonly suite: string;
  /** `linux-image-6.1.0-56-amd64` */
  readonly name: string;
  readonly version: string;
  /** `uname -r`: what the name ends with. */
  readonly release: string;
  /** What to download: the image's package and those that hold its parts. */
  readonly parts: readonly {
    readonly name: string;
    readonly version: string;
    readonly sizeBytes: number;
    readonly installedBytes: number;
    readonly sha256: string;
  }[];
};

type CommandOptions = { readonly cwd?: string; readonly signal: AbortSignal };

/** Runs a command of apt's. Throws a KernelError with the last thing that it complained about. */
export async function aptCommand(
  tool: string,
  args: readonly string[],
  { cwd, signal }: CommandOptions,
): Promise<string> {
  let said = { stdout: (): string => "", stderr: (): string => "" };
  const end = await runGroup([tool, ...args], {
    ...(cwd === undefined ? {} : { cwd }),
    env: environment(),
    signal,
    timeoutMs: COMMAND_BOUND_MS,
    read: (stdout, stderr) => {
      said = { stdout: textOf(stdout), stderr: textOf(stderr) };
    },
  });
  switch (end.kind) {
    case "exit":
      if (end.code === 0) return said.stdout();
      throw new KernelError(
        `${tool} ${args.at(-1)}: ${complaint(said.stderr()) ?? `ended with ${end.code}`}`,
      );
    case "killed":
      throw new KernelError(`${tool} ${args.at(-1)}: was killed by ${end.by}`);
    case "timeout":
      throw new KernelError(`${tool} ${args.at(-1)}: no end within ${COMMAND_BOUND_MS / 1000} s`);
    case "interrupted":
      throw new KernelError(`${tool} was interrupted`);
    case "not-started":
      throw new KernelError(
        end.error.code === "ENOENT"
          ? `there is no ${tool} here: kernels of Debian's archive come through apt only`
          : `${tool}: ${end.error.message}`,
      );
  }
}

/** apt's first error, else its first warning. */
function complaint(stderr: string): string | undefined {
  const said = stderr.split("\n").filter((line) => /^[EWN]: /.test(line));
  return said.find((line) => line.startsWith("E: ")) ?? said.at(0);
}

/** Messages in English, whatever the user's language: they are read here. */
function environment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: "C.UTF-8", DEBIAN_FRONTEND: "noninteractive" };
}

/** An archive in apt's terms. */
export type AptSource = { readonly uri: string; readonly suite: string; readonly label: string };

/** Debian's archives among the machine's sources. Throws a KernelError if there are none. */
export async function debianSources(signal: AbortSignal): Promise<readonly AptSource[]> {
  const format = "$(REPO_URI)\t$(RELEASE)\t$(ORIGIN)\t$(LABEL)\t$(COMPONENT)";
  const text = await aptCommand("apt-get", ["indextargets", "--format", format, "Created-By: Packages"], {
    signal,
  });
  const sources = text
    .split("\n")
    .map((line) => line.split("\t"))
    .filter(([, , origin, , component]) => origin === "Debian" && component === "main")
    .map(([uri = "", suite = "", , label = ""]) => ({ uri, suite, label }));
  if (sources.length === 0) {
    throw new KernelError(
      "apt has no archive of Debian's among its sources, or has never read them (sudo apt-get update)",
    );
  }
  return sources;
}

/** A line of a `sources.list`. */
export function signedSource({ uri, suite }: Pick<AptSource, "uri" | "suite">): string {
  const options = existsSync(KEYRING) ? `[signed-by=${KEYRING}] ` : "";
  return `deb ${options}${uri} ${suite} main\n`;
}

/** apt with lists and sources of our own, and everything else as the machine has it. */
class Suite {
  readonly name: string;
  readonly #directory: string;
  readonly #signal: AbortSignal;

  constructor(name: string, aptDirectory: string, signal: AbortSignal) {
    this.name = name;
    this.#directory = join(aptDirectory, name);
    this.#signal = signal;
  }

  #command(tool: string, args: readonly string[], cwd?: string): Promise<string> {
    const where = cwd === undefined ? {} : { cwd };
    return aptCommand(tool, [...this.options, ...args], { ...where, signal: this.#signal });
  }

  get options(): readonly string[] {
    const settings = {
      "Dir::Etc::sourcelist": join(this.#directory, "sources.list"),
      "Dir::Etc::sourceparts": "/dev/null",
      "Dir::State::lists": join(this.#directory, "lists"),
      "Dir::Cache": join(this.#directory, "cache"),
      "Acquire::Languages": "none",
      // Our folders are the user's; apt's own user could not read them.
      "APT::Sandbox::User": "root",
    };
    return Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  }

  #makeFolders(): void {
    try {
      mkdirSync(join(this.#directory, "lists", "partial"), { recursive: true });
      mkdirSync(join(this.#directory, "cache", "archives", "partial"), { recursive: true });
    } catch (error) {
      throw new KernelError(
        `the cache cannot be written: ${errorText(error)} (XDG_CACHE_HOME names another place)`,
      );
    }
  }

  /** Reads the archive's index, unless that was done lately. An old one serves where a new one cannot be had. */
  async refresh(): Promise<void> {
    const stamp = join(this.#directory, "updated");
    const age = existsSync(stamp) ? Date.now() - statSync(stamp).mtimeMs : Number.POSITIVE_INFINITY;
    if (age < INDEX_LIFE_MS) return;
    this.#makeFolders();
    writeFileSync(join(this.#directory, "sources.list"), await this.#sourcesList());
    try {
      // Without this, apt calls an index that could not be fetched a warning.
      await this.#command("apt-get", ["-o", "APT::Update::Error-Mode=any", "update"]);
    } catch (error) {
      if (Number.isFinite(age) && !this.#signal.aborted) return;
      throw error;
    }
    writeFileSync(stamp, "");
    utimesSync(stamp, new Date(), new Date());
  }

  async #sourcesList(): Promise<string> {
    const own = await debianSources(this.#signal);
    const main = own.find(({ label }) => label === "Debian") ?? own[0];
    const wanted = this.name === OWN_SUITES ? own : main === undefined ? [] : [{ ...main, suite: this.name }];
    return wanted.map(signedSource).join("");
  }

  async kernels(): Promise<readonly KernelPackage[]> {
    await this.refresh();
    const pattern = "^linux-(image|binary|modules|base)-[0-9].*$";
    const text = await this.#command("apt-cache", ["search", "--names-only", "--full", pattern]);
    return kernelPackages(this.name, text);
  }

  /** The newest package `linux-source-VERSION`; null: there is none. Its `release` is that version. */
  async source(version: string): Promise<KernelPackage | null> {
    await this.refresh();
    const name = `linux-source-${version}`;
    const text = await this.#command("apt-cache", ["search", "--names-only", "--full", `^${name}$`]);
    return sourcePackage(this.name, version, text);
  }

  /** What KVM's modules of a kernel are compiled of. Throws a KernelError that names what the archive lacks. */
  async kvmBuild(kernel: KernelPackage): Promise<KernelPackage> {
    await this.refresh();
    const show = async (names: readonly string[]): Promise<string> => {
      try {
        return await this.#command("apt-cache", ["show", ...names]);
      } catch (error) {
        // It fails where there is none of them.
        if (this.#signal.aborted) throw error;
        return "";
      }
    };
    const headers = headersPackage(kernel, await show([`linux-headers-${kernel.release}`]));
    return kvmBuildPackage(kernel, headers, await show(headers.others));
  }

  /** Downloads the packages' files into the folder; apt checks them. Returns their paths. */
  async download({ parts }: KernelPackage, folder: string): Promise<readonly string[]> {
    const names = parts.map(({ name, version }) => `${name}=${version}`);
    await this.#command("apt-get", ["download", ...names], folder);
    return readdirSync(folder)
      .filter((name) => name.endsWith(".deb"))
      .map((name) => join(folder, name));
  }
}

type Stanza = ReadonlyMap<string, string>;

/** `Field: value` paragraphs (deb-control.5); continuation lines are of no interest here. */
function stanzas(text: string): readonly Stanza[] {
  return text
    .split(/\n\n+/)
    .map(
      (paragraph) =>
        new Map(
          paragraph.split("\n").flatMap((line) => {
            const [, name, value] = /^([A-Za-z0-9-]+): (.*)$/.exec(line) ?? [];
            return name === undefined || value === undefined ? [] : [[name, value] as const];
          }),
        ),
    )
    .filter((stanza) => stanza.has("Package"));
}

/** Flavours that are for something else than a machine of ours, and packages without code. */
const unwanted = /-(cloud|rt|dbg|unsigned|uefi)\b|-dbg$|-unsigned$/;

function partOf(stanza: Stanza): KernelPackage["parts"][number] {
  return {
    name: stanza.get("Package") ?? "",
    version: stanza.get("Version") ?? "",
    sizeBytes: Number(stanza.get("Size") ?? 0),
    installedBytes: 1024 * Number(stanza.get("Installed-Size") ?? 0),
    sha256: stanza.get("SHA256") ?? "",
  };
}

/**
 * Kernels from the text of `apt-cache search --full`. Where image, modules and their tables are packages of their own
 * (Linux 7.x), the image's package depends on them by name.
 */
export function kernelPackages(suite: string, text: string): readonly KernelPackage[] {
  const all = stanzas(text).filter((stanza) => /^(amd64)$/.test(stanza.get("Architecture") ?? ""));
  const kernels: KernelPackage[] = [];
  for (const stanza of all) {
    const name = stanza.get("Package") ?? "";
    const release = /^linux-image-([0-9]+\.[0-9]+(?:[-.+0-9].*)?-amd64)$/.exec(name)?.[1];
    const depends = stanza.get("Depends") ?? "";
    // `linux-image-6.12-amd64` may be a package that depends on the newest 6.12: it holds no kernel.
    if (release === undefined || unwanted.test(name) || depends.includes("linux-image-")) continue;
    const version = stanza.get("Version") ?? "";
    const needed = ["binary", "modules", "base"]
      .map((part) => `linux-${part}-${release}`)
      .filter((part) => depends.includes(`${part} `));
    const others = needed.map((part) =>
      all.find((other) => other.get("Package") === part && other.get("Version") === version),
    );
    // Where the archive has dropped a part of it, the kernel cannot be had any more.
    if (others.includes(undefined)) continue;
    const parts = [stanza, ...others.filter((other) => other !== undefined)].map(partOf);
    kernels.push({ suite, name, version, release, parts });
  }
  return kernels.sort(newestFirst);
}

/** The newest of the source packages in the text of `apt-cache search --full`. */
export function sourcePackage(suite: string, version: string, text: string): KernelPackage | null {
  const name = `linux-source-${version}`;
  const [newest] = stanzas(text)
    .filter((stanza) => stanza.get("Package") === name)
    .map(partOf)
    .map((part): KernelPackage => ({ suite, name, version: part.version, release: version, parts: [part] }))
    .sort(newestFirst);
  return newest ?? null;
}

type Part = KernelPackage["parts"][number];

/** A package of headers, and the names of those that it needs to compile modules of KVM. */
export type HeadersPackage = { readonly part: Part; readonly others: readonly string[] };

function ofVersion(text: string, name: string, { release, version }: KernelPackage): Stanza {
  const found = stanzas(text).find(
    (stanza) => stanza.get("Package") === name && stanza.get("Version") === version,
  );
  if (found !== undefined) return found;
  throw new KernelError(
    `Debian's archive has no ${name} ${version} (any more): KVM of ${release} cannot be compiled here (daxfault kernels)`,
  );
}

/** From the text of `apt-cache show`. Throws a KernelError. */
export function headersPackage(kernel: KernelPackage, text: string): HeadersPackage {
  const stanza = ofVersion(text, `linux-headers-${kernel.release}`, kernel);
  const depends = (stanza.get("Depends") ?? "").split(/[,|]/).map((one) => one.trim().split(" ")[0] ?? "");
  const needed = depends.filter((name) => /^linux-(?:headers-.*-common|kbuild-.*)$/.test(name));
  const series = /^[0-9]+\.[0-9]+/.exec(kernel.version)?.[0] ?? kernel.version;
  return { part: partOf(stanza), others: [...needed, `linux-source-${series}`] };
}

/** All that it takes, as one download. Throws a KernelError. */
export function kvmBuildPackage(kernel: KernelPackage, headers: HeadersPackage, text: string): KernelPackage {
  const others = headers.others.map((name) => partOf(ofVersion(text, name, kernel)));
  return { ...kernel, name: headers.part.name, parts: [headers.part, ...others] };
}

/** The weight of a character between figures: `~` before the end, letters before all else (deb-version(7)). */
function weight(character: string | undefined): number {
  if (character === undefined || /[0-9]/.test(character)) return 0;
  if (character === "~") return -1;
  const code = character.charCodeAt(0);
  return /[A-Za-z]/.test(character) ? code : code + 256;
}

/** Text without figures, character by character; a text that ends has a figure or nothing next. */
function compareText(a: string, b: string): number {
  for (let index = 0; index < Math.max(a.length, b.length); index += 1) {
    const difference = weight(a[index]) - weight(b[index]);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** As dpkg orders versions: 7.3~rc7-1 before 7.3-1, 6.1.9 before 6.1.27. Negative: `a` is the older one. */
export function compareVersions(a: string, b: string): number {
  const parts = (text: string): readonly string[] => text.match(/[0-9]+|[^0-9]+/g) ?? [];
  // Text and figures in turn, text first.
  const turns = (text: string): readonly string[] =>
    /^[0-9]/.test(text) ? ["", ...parts(text)] : parts(text);
  const [left, right] = [turns(a), turns(b)];
  for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
    const [one = "", other = ""] = [left[index], right[index]];
    const difference = index % 2 === 0 ? compareText(one, other) : Number(one) - Number(other);
    if (difference !== 0) return difference;
  }
  return 0;
}

function newestFirst(a: KernelPackage, b: KernelPackage): number {
  return compareVersions(b.version, a.version) || (a.release < b.release ? 1 : -1);
}

/** `6.1` is 6.1.192-2 and 6.1.0-56-amd64, not 6.12. */
export function isVersion(kernel: KernelPackage, wanted: string): boolean {
  return [kernel.version, kernel.release].some(
    (text) => text.startsWith(wanted) && !/^[0-9]/.test(text.slice(wanted.length)),
  );
}

/** apt's messages where the mirror itself is out of reach; for a missing suite it reports 404. */
const unreachable = /Could not connect|Could not resolve|Temporary failure resolving|Connection timed out/;

/** The archive as seen from this machine, with indexes below a folder of the cache. */
export class DebianArchive {
  readonly #directory: string;
  readonly #signal: AbortSignal;

  /** @param signal ends whatever apt is doing */
  constructor(directory: string, signal: AbortSignal = new AbortController().signal) {
    this.#directory = directory;
    this.#signal = signal;
  }

  suite(name: string): Suite {
    return new Suite(name, this.#directory, this.#signal);
  }

  /** The newest kernel of a suite. Throws a KernelError. */
  async newestOf(suite: string): Promise<KernelPackage> {
    const [newest] = await this.suite(suite).kernels();
    if (newest === undefined)
      throw new KernelError(`Debian's suite ${suite} has no kernel for amd64 (daxfault kernels)`);
    return newest;
  }

  /** The newest kernel of that version, from the first suite that has one. Throws a KernelError. */
  newestVersion(version: string): Promise<KernelPackage> {
    const find = async (suite: Suite): Promise<KernelPackage | null> =>
      (await suite.kernels()).find((kernel) => isVersion(kernel, version)) ?? null;
    return this.#firstOf(`kernel ${version}`, find);
  }

  /** The newest package of sources of that version, likewise. Throws a KernelError. */
  sourceOf(version: string): Promise<KernelPackage> {
    return this.#firstOf(`sources linux-source-${version}`, (suite) => suite.source(version));
  }

  async #firstOf(
    what: string,
    find: (suite: Suite) => Promise<KernelPackage | null>,
  ): Promise<KernelPackage> {
    const problems: string[] = [];
    for (const name of searchedSuites) {
      try {
        const found = await find(this.suite(name));
        if (found !== null) return found;
      } catch (error) {
        if (this.#signal.aborted) throw error;
        problems.push(errorText(error));
        // All suites are on the same mirror, and apt tries each for some seconds.
        if (unreachable.test(errorText(error))) {
          throw new KernelError(`Debian's archive cannot be read: ${errorText(error)}`);
        }
      }
    }
    const suffix = problems.length === 0 ? "" : `; ${problems[0]}`;
    throw new KernelError(
      `no ${what} in Debian's archive: looked in ${searchedSuites.join(", ")} (daxfault kernels)${suffix}`,
    );
  }

  /** What KVM's modules of that kernel are compiled of. Throws a KernelError. */
  kvmBuildOf(kernel: KernelPackage): Promise<KernelPackage> {
    return this.suite(kernel.suite).kvmBuild(kernel);
  }

  download(kernel: KernelPackage, folder: string): Promise<readonly string[]> {
    return this.suite(kernel.suite).download(kernel, folder);
  }
}
