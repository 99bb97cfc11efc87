/**
 * A file system whose client has other user and group ids than the host: ids of requests and answers are translated.
 * Ids inside of ACLs (system.posix_acl_*) are not: they are those of the host.
 */
import { DecoratedFileSystem } from "./decorator.ts";
import type {
  AttributeChange,
  Attributes,
  Caller,
  Entry,
  FileHandle,
  FileSystem,
  NewNode,
  NodeId,
  Place,
} from "./filesystem.ts";
import type { IdMap } from "./id-map.ts";
import type { ComponentName, TerminatedBytes } from "./names.ts";

export type IdMaps = { readonly uids: IdMap; readonly gids: IdMap };

export class TranslatedFileSystem extends DecoratedFileSystem {
  readonly #maps: IdMaps;

  constructor(inner: FileSystem, maps: IdMaps) {
    super(inner);
    this.#maps = maps;
  }

  override lookup(parent: NodeId, name: ComponentName): Entry {
    return this.#entry(super.lookup(parent, name));
  }

  override getattr(node: NodeId): Attributes {
    return this.#shown(super.getattr(node));
  }

  override setattr(node: NodeId, change: AttributeChange, handle: FileHandle | null): Attributes {
    const { uids, gids } = this.#maps;
    const uid = change.uid === null ? null : uids.toHost(change.uid);
    const gid = change.gid === null ? null : gids.toHost(change.gid);
    return this.#shown(super.setattr(node, { ...change, uid, gid }, handle));
  }

  override access(node: NodeId, mask: number, caller: Caller): void {
    super.access(node, mask, this.#host(caller));
  }

  override create(place: Place, flags: number, what: NewNode): { entry: Entry; handle: FileHandle } {
    return this.#opened(super.create(place, flags, this.#made(what)));
  }

  override tmpfile(parent: NodeId, flags: number, what: NewNode): { entry: Entry; handle: FileHandle } {
    return this.#opened(super.tmpfile(parent, flags, this.#made(what)));
  }

  override mkdir(place: Place, what: NewNode): Entry {
    return this.#entry(super.mkdir(place, this.#made(what)));
  }

  override mknod(place: Place, what: NewNode, device: { major: number; minor: number }): Entry {
    return this.#entry(super.mknod(place, this.#made(what), device));
  }

  override symlink(place: Place, target: TerminatedBytes, caller: Caller): Entry {
    return this.#entry(super.symlink(place, target, this.#host(caller)));
  }

  override link(node: NodeId, place: Place): Entry {
    return this.#entry(super.link(node, place));
  }

  override withoutFsetid<T>(caller: Caller, work: () => T): T {
    return super.withoutFsetid(this.#host(caller), work);
  }

  #host({ uid, gid }: Caller): Caller {
    return { uid: this.#maps.uids.toHost(uid), gid: this.#maps.gids.toHost(gid) };
  }

  #made(what: NewNode): NewNode {
    return { ...what, caller: this.#host(what.caller) };
  }

  #opened({ entry, handle }: { readonly entry: Entry; readonly handle: FileHandle }): {
    entry: Entry;
    handle: FileHandle;
  } {
    return { entry: this.#entry(entry), handle };
  }

  #entry(entry: Entry): Entry {
    return { ...entry, attributes: this.#shown(entry.attributes) };
  }

  /** Field by field: the kernel's own structure has the host's ids. */
  #shown(attributes: Attributes): Attributes {
    const { statx: _, ...fields } = attributes;
    const uid = this.#maps.uids.toClient(fields.uid);
    return { ...fields, uid, gid: this.#maps.gids.toClient(fields.gid) };
  }
}
