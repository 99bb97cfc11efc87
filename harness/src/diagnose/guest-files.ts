/**
 * The files that a VM's process has mapped and may have given to its guest. Which of its mappings are memslots, KVM tells
 * nobody; what is left out here is no guest's memory: programs, their libraries and data, devices.
 */
import type { FileSystem, GuestFile, Piece, Server } from "./facts.ts";
import { type FileStatus, type Host, valueIn } from "./host.ts";
import { type MapLine, type Mount, parseMaps, parseMountinfo } from "./proc.ts";

const MAPS_BYTES = 16 * 1024 * 1024;
const MOUNTS_BYTES = 1024 * 1024;
const FILES_MAX = 256;
/** A private mapping that can be written is a guest's memory (QEMU's share=off), or a library's data: the latter is small. */
const PRIVATE_BYTES_MIN = 1n << 20n;
/** A shared one that cannot be written is a ROM, or a cache of the C library's. */
const READ_ONLY_BYTES_MIN = 64n << 10n;

const key = ({ major, minor, inode }: MapLine): string => `${major}:${minor}:${inode}`;

function mayBeGuests({ access, start, end, path }: MapLine): boolean {
  const bytes = end - start;
  if (path.startsWith("anon_inode:") || path.startsWith("socket:")) return false;
  // Devices (VFIO, DRM, /dev/kvm's own pages); files may be in /dev/shm and /dev/hugepages.
  if (/^\/dev\/(?!shm\/|hugepages|zero \(deleted\)$)/.test(path)) return false;
  if (access.endsWith("s")) return access[1] === "w" || bytes >= READ_ONLY_BYTES_MIN;
  return access[1] === "w" && bytes >= PRIVATE_BYTES_MIN;
}

/** By inode: neighbours that continue one another are one piece. */
export function groupMappings(lines: readonly MapLine[]): readonly (readonly MapLine[])[] {
  const programs = new Set(lines.filter(({ access }) => access.includes("x")).map(key));
  const groups = new Map<string, MapLine[]>();
  for (const line of lines) {
    if (!mayBeGuests(line) || programs.has(key(line))) continue;
    const group = groups.get(key(line)) ?? [];
    groups.set(key(line), group);
    group.push(line);
  }
  return [...groups.values()];
}

export function piecesOf(lines: readonly MapLine[]): readonly Piece[] {
  const pieces: Piece[] = [];
  for (const { start, end, offset, access } of lines) {
    const last = pieces.at(-1);
    const continues =
      last !== undefined &&
      last.end === start &&
      last.access === access &&
      last.offset + (last.end - last.start) === offset;
    if (continues) pieces[pieces.length - 1] = { ...last, end };
    else pieces.push({ start, end, offset, access });
  }
  return pieces;
}

/** Of one line, as the kernel has it: what `piecesOf` joins is no name there. */
const linkOf = (pid: number, { start, end }: MapLine): string =>
  `/proc/${pid}/map_files/${start.toString(16)}-${end.toString(16)}`;

type Sized = { readonly status: FileStatus | null; readonly reason: string | null };

/** @param links descriptors, for those who may not follow map_files */
async function statusOf(
  host: Host,
  pid: number,
  line: MapLine,
  links: ReadonlyMap<number, string>,
): Promise<Sized> {
  const answer = await host.status(linkOf(pid, line));
  if (answer.kind === "ok") return { status: answer.value, reason: null };
  for (const [fd, link] of links) {
    if (link !== line.path) continue;
    const status = valueIn(await host.status(`/proc/${pid}/fd/${fd}`));
    if (status !== null && status.inode === line.inode) return { status, reason: null };
  }
  const reason = ["EPERM", "EACCES"].includes(answer.code)
    ? `${answer.code}: root of the outermost namespace may look, if the file system lets it`
    : answer.code;
  return { status: null, reason };
}

const REMOTE = /^(?:nfs4?|cifs|smb3|9p|ceph|afs|lustre|gfs2|ocfs2|glusterfs)$/;
const FUSE = /^(?:fuse|fuseblk|fuse\..+)$/;

/** The mount with the longest path: a file system may be mounted more than once. */
function mountOf(mounts: readonly Mount[], { major, minor, path }: MapLine): Mount | null {
  const isAbove = ({ mountPoint }: Mount): boolean =>
    mountPoint === "/" || path === mountPoint || path.startsWith(`${mountPoint}/`);
  const own = mounts.filter((one) => one.major === major && one.minor === minor);
  const length = (one: Mount): number => (isAbove(one) ? one.mountPoint.length + 1 : 0);
  return own.sort((a, b) => length(b) - length(a))[0] ?? null;
}

function fileSystemOf(
  { mounts, connections }: { readonly mounts: readonly Mount[]; readonly connections: readonly string[] },
  line: MapLine,
  fuseServer: (connection: number) => Server,
): FileSystem | null {
  const mount = mountOf(mounts, line);
  const connection = line.major * 2 ** 20 + line.minor;
  if (mount === null) {
    // As long as a file of it is mapped, its connection is there (fuse_ctl_remove_conn(), fs/fuse/control.c).
    if (line.major !== 0 || !connections.includes(String(connection))) return null;
    return { type: "fuse", source: "", mountPoint: null, server: fuseServer(connection) };
  }
  const { type, source, mountPoint } = mount;
  const server: Server | null = FUSE.test(type)
    ? fuseServer(connection)
    : type === "virtiofs"
      ? { kind: "outside" }
      : REMOTE.test(type)
        ? { kind: "remote" }
        : null;
  return { type, source, mountPoint, server };
}

export type GuestFiles = { readonly files: readonly GuestFile[]; readonly unseen: readonly string[] };

export async function guestFilesOf(
  host: Host,
  pid: number,
  links: ReadonlyMap<number, string>,
  fuseServer: (connection: number) => Server,
): Promise<GuestFiles> {
  const text = await host.readOfMemory(`/proc/${pid}/maps`, MAPS_BYTES);
  if (text.kind === "failed") {
    const why =
      text.code === "ETIMEDOUT"
        ? "no answer: a thread of the process may hold its mmap_lock for ever"
        : `${text.code}; root may look`;
    return { files: [], unseen: [`what the process has mapped (/proc/${pid}/maps: ${why})`] };
  }
  const mounts = parseMountinfo(valueIn(host.read(`/proc/${pid}/mountinfo`, MOUNTS_BYTES)) ?? "");
  const connections = valueIn(host.list("/sys/fs/fuse/connections")) ?? [];
  const groups = groupMappings(parseMaps(text.value));
  const files: GuestFile[] = [];
  for (const lines of groups.slice(0, FILES_MAX)) {
    const [line] = lines;
    if (line === undefined) continue;
    const { status, reason } = await statusOf(host, pid, line, links);
    if (status !== null && !status.isRegular) continue;
    const isDeleted = line.path.endsWith(" (deleted)");
    files.push({
      path: line.path.replace(/ \(deleted\)$/, ""),
      isDeleted,
      device: { major: line.major, minor: line.minor },
      inode: line.inode,
      pieces: piecesOf(lines),
      link: linkOf(pid, line),
      sizeBytes: status?.sizeBytes ?? null,
      sizeReason: reason,
      fileSystem: fileSystemOf({ mounts, connections }, line, fuseServer),
    });
  }
  const left = groups.length - FILES_MAX;
  return { files, unseen: left > 0 ? [`${left} more files that it has mapped`] : [] };
}
