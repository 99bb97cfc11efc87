/**
 * Who serves a FUSE mount, and does it answer? No request is sent to find out: one that a server has taken and does not
 * answer cannot be interrupted, not even by SIGKILL (request_wait_answer(), fs/fuse/dev.c).
 */
import type { Server, ServerProcess } from "./facts.ts";
import { descriptorsOf, numbersIn } from "./find.ts";
import { boundOf, type Host, valueIn } from "./host.ts";
import { parseMember, parseStat } from "./proc.ts";

const TEXT_BYTES = 16 * 1024;
const SCAN_MS = 250;

type Holder = ServerProcess & {
  /** As fdinfo has them (Linux 6.16); empty: it does not say. */
  readonly connections: readonly number[];
};

type Holders = { readonly holders: readonly Holder[]; readonly isComplete: boolean };

function holderOf(host: Host, pid: number): Holder | null | "refused" {
  const links = descriptorsOf(host, pid);
  // Of a zombie there are none, and of one that has just ended neither.
  if (links.kind === "failed") return ["EACCES", "EPERM"].includes(links.code) ? "refused" : null;
  const fds = [...links.value].filter(([, link]) => link === "/dev/fuse").map(([fd]) => fd);
  if (fds.length === 0) return null;
  const stat = parseStat(valueIn(host.read(`/proc/${pid}/stat`, TEXT_BYTES)) ?? "");
  if (stat === null) return null;
  const connections = fds.flatMap((fd) => {
    const text = valueIn(host.read(`/proc/${pid}/fdinfo/${fd}`, TEXT_BYTES)) ?? "";
    const id = parseMember(text, "fuse_connection");
    return id === null ? [] : [Number(id)];
  });
  return { pid, name: stat.name, state: stat.state, connections };
}

function holdersOf(host: Host): Holders {
  const hasTime = boundOf(host, SCAN_MS);
  const holders: Holder[] = [];
  let isComplete = true;
  for (const pid of numbersIn(valueIn(host.list("/proc")) ?? [])) {
    if (!hasTime()) return { holders, isComplete: false };
    const holder = holderOf(host, pid);
    if (holder === "refused") isComplete = false;
    else if (holder !== null) holders.push(holder);
  }
  return { holders, isComplete };
}

export class FuseServers {
  readonly #host: Host;
  #holders: Holders | null = null;

  constructor(host: Host) {
    this.#host = host;
  }

  waiting(connection: number): number | null {
    const path = `/sys/fs/fuse/connections/${connection}/waiting`;
    const text = valueIn(this.#host.read(path, TEXT_BYTES));
    return text === null || !/^[0-9]+\s*$/.test(text) ? null : Number(text);
  }

  /** Processes are looked at once, and only where a VM has a file of a FUSE mount. */
  server(connection: number): Server {
    this.#holders ??= holdersOf(this.#host);
    const { holders, isComplete } = this.#holders;
    const isExact = holders.some(({ connections }) => connections.length > 0);
    const own = isExact ? holders.filter(({ connections }) => connections.includes(connection)) : holders;
    const before = this.waiting(connection);
    return {
      kind: "fuse",
      connection,
      waiting: before === null ? null : { before, after: before },
      processes: own.map(({ pid, name, state }) => ({ pid, name, state })),
      // A server whose process holds no descriptor of any connection could be one of io_uring or of another namespace.
      isExact: isExact || (holders.length === 0 && isComplete),
      isComplete,
    };
  }
}
