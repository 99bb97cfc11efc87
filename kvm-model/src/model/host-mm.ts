/**
 * The host's memory management behind the window: what get_user_pages finds for a page.
 *
 * Mirrors: hva_to_pfn() of virt/kvm/kvm_main.c (fast GUP, slow GUP, -EHWPOISON, no VMA), filemap_fault() of mm/filemap.c
 * (i_size tested before the page cache; under FOLL_NOWAIT an absent page starts read-ahead and reports "retry"),
 * shmem_fault() for a full tmpfs (VM_FAULT_SIGBUS).
 */
import { at, CACHE, type Context, EPT, VMA } from "./fields.ts";

/** What one get_user_pages call says of a page. */
export const GUP = { ok: 0, needsIo: 1, fault: 2, noVma: 3, poison: 4 } as const;

/** `wait`: without FOLL_NOWAIT, so that the caller sleeps for I/O. Has the side effects of a real fault. */
export function getUserPage(ctx: Context, s: Uint8Array, page: number, wait: boolean): number {
  const { f } = ctx;
  const vma = at(s, f.vma + page);
  if (vma === VMA.poisoned) return GUP.poison;
  if (vma === VMA.none) return GUP.noVma;
  if (vma === VMA.anonymous) return GUP.ok;
  // Fast GUP: a present host PTE is enough, whatever i_size says by now.
  if (at(s, f.hostPte + page) !== 0) return GUP.ok;
  if (ctx.has("i-size-test") && page >= at(s, f.size)) return GUP.fault;
  switch (at(s, f.cache + page)) {
    case CACHE.resident:
      s[f.hostPte + page] = 1;
      if (fillsLargePage(ctx, s)) s.fill(1, f.hostPte, f.hostPte + ctx.pages);
      return GUP.ok;
    case CACHE.failed:
      return GUP.fault;
    default:
      return readPage(ctx, s, page, wait);
  }
}

/** filemap_map_pmd(): one PMD for the range, if all of it is in the page cache and in front of the end of the file. */
function fillsLargePage(ctx: Context, s: Uint8Array): boolean {
  const { f } = ctx;
  if (!ctx.case.largePage || at(s, f.size) < ctx.pages) return false;
  for (let page = 0; page < ctx.pages; page++) {
    if (at(s, f.cache + page) !== CACHE.resident || at(s, f.vma + page) !== VMA.file) return false;
  }
  return true;
}

/** Enters a page into the second level; with it the whole range, where the host maps that by one entry. */
export function mapSecondLevel(ctx: Context, s: Uint8Array, page: number, pfn: number): void {
  const { f } = ctx;
  s[f.ept + page] = pfn;
  if (pfn !== EPT.file || !fillsLargePage(ctx, s)) return;
  for (let other = 0; other < ctx.pages; other++) if (at(s, f.hostPte + other) === 0) return;
  s.fill(EPT.file, f.ept, f.ept + ctx.pages);
  s[f.largeEpt] = 1;
}

/** Zaps what the second level maps of a range: a large entry goes as a whole, whichever part of it is meant. */
function zapSecondLevel(ctx: Context, s: Uint8Array, fromPage: number, toPage: number): void {
  const { f } = ctx;
  const isLarge = ctx.case.largePage && at(s, f.largeEpt) === 1;
  if (isLarge && !ctx.has("large-page-zapped")) return;
  s.fill(EPT.none, f.ept + (isLarge ? 0 : fromPage), f.ept + (isLarge ? ctx.pages : toPage));
  if (isLarge) s[f.largeEpt] = 0;
}

/**
 * A file of the host's own that was truncated and has grown again has a hole there: zeros at once, without I/O
 * (ext4_mpage_readpages(), iomap_readahead()). Behind a file server every page is a READ.
 */
function isHole(ctx: Context, s: Uint8Array, page: number): boolean {
  return ctx.case.pages[page] === "resident" && at(s, ctx.f.zeroed + page) !== 0;
}

function readPage(ctx: Context, s: Uint8Array, page: number, wait: boolean): number {
  const { f } = ctx;
  switch (ctx.case.pages[page]) {
    case "no-space":
      return GUP.fault;
    case "io-error":
      if (!wait) return GUP.needsIo;
      s[f.cache + page] = CACHE.failed;
      return GUP.fault;
    default:
      if (!wait && !isHole(ctx, s, page)) return GUP.needsIo;
      s[f.cache + page] = CACHE.resident;
      s[f.hostPte + page] = 1;
      return GUP.ok;
  }
}

/** Is there anything that would give this page, now or after I/O? */
export function isGone(ctx: Context, s: Uint8Array, page: number): boolean {
  const { f } = ctx;
  const start = ctx.case.pages[page];
  if (at(s, f.vma + page) !== VMA.file) return true;
  if (page >= at(s, f.size)) return true;
  return at(s, f.cache + page) !== CACHE.resident && (start === "no-space" || start === "io-error");
}

/** kvm_mmu_notifier_invalidate_range_start: under mmu_lock, count the invalidation and zap the second-level mapping. */
export function invalidateStart(ctx: Context, s: Uint8Array, fromPage: number): void {
  const { f } = ctx;
  if (ctx.has("invalidation-counted")) s[f.invalidating] = at(s, f.invalidating) + 1;
  if (!ctx.has("zap-on-truncate")) return;
  zapSecondLevel(ctx, s, fromPage, ctx.pages);
}

/** The host's own page tables, between start and end of the invalidation. */
export function zapHostPtes(ctx: Context, s: Uint8Array, fromPage: number): void {
  if (!ctx.has("fast-gup-cleared")) return;
  for (let page = fromPage; page < ctx.pages; page++) s[ctx.f.hostPte + page] = 0;
}

/** kvm_mmu_notifier_invalidate_range_end: the sequence number first, then the count. */
export function invalidateEnd(ctx: Context, s: Uint8Array): void {
  const { f } = ctx;
  s[f.seq] = at(s, f.seq) + 1;
  s[f.invalidating] = Math.max(0, at(s, f.invalidating) - 1);
}

/** Another VMA over pages: mmap(MAP_FIXED), mprotect, munmap. mmap_lock makes it one step for everybody else. */
export function replaceVma(ctx: Context, s: Uint8Array, fromPage: number, toPage: number, vma: number): void {
  const { f } = ctx;
  for (let page = fromPage; page < toPage; page++) {
    s[f.vma + page] = vma;
    s[f.hostPte + page] = 0;
  }
  zapSecondLevel(ctx, s, fromPage, toPage);
  s[f.seq] = at(s, f.seq) + 1;
}

/** truncate_inode_pages: the page leaves the file. Whoever still maps it, maps memory that the file no longer has. */
export function dropPages(ctx: Context, s: Uint8Array, fromPage: number): void {
  const { f } = ctx;
  for (let page = fromPage; page < ctx.pages; page++) {
    s[f.cache + page] = CACHE.absent;
    if (ctx.has("content-zeroed")) s[f.zeroed + page] = 1;
    if (at(s, f.ept + page) === EPT.file) s[f.ept + page] = EPT.freed;
    for (let v = 0; v < ctx.vcpus; v++) {
      if (at(s, f.vPfn + v) === EPT.file && at(s, f.vPage + v) === page) s[f.vPfn + v] = EPT.freed;
    }
  }
}

/** The page stays in the file and in the cache; what the second level maps of it goes (`interference.ts`). */
export function letGo(ctx: Context, s: Uint8Array, page: number): void {
  zapSecondLevel(ctx, s, page, page + 1);
  s[ctx.f.seq] = at(s, ctx.f.seq) + 1;
}

/** A hole: the pages stay in the file, and a fault on one finds a page of zeros without any I/O. */
export function punchHole(ctx: Context, s: Uint8Array, fromPage: number, toPage: number): void {
  const { f } = ctx;
  for (let page = fromPage; page < toPage; page++) {
    s[f.hostPte + page] = 0;
    s[f.zeroed + page] = 1;
  }
  zapSecondLevel(ctx, s, fromPage, toPage);
  s[f.seq] = at(s, f.seq) + 1;
}
