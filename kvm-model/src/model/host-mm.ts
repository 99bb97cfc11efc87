/**
 * The host's memory management behind the window: what get_user_pages finds for a page.
 *
 * Mirrors: hva_to_pfn() of virt/kvm/kvm_main.c (fast GUP, slow GUP, -EHWPOISON, no VMA), filemap_fault() of mm/filemap.c
 * (i_size tested before the page cache; under FOLL_NOWAIT an absent page starts read-ahead and reports "retry"),
 * shmem_fault() for a full tmpfs (VM_FAULT_SIGBUS).
 */

import type { Machine } from "./machine.ts";
import type { Ept, Page, Vma } from "./page.ts";

/** How get_user_pages is called: without FOLL_NOWAIT the caller sleeps for I/O. */
export type Gup = "FOLL_NOWAIT" | "may sleep";

/** The result of one get_user_pages call for a page. */
export type GupResult = "ok" | "needs I/O" | "fault" | "no VMA" | "hwpoison";

/** Has the side effects of a real fault. */
export function getUserPage(m: Machine, page: Page, gup: Gup): GupResult {
  switch (page.vma) {
    case "poisoned":
      return "hwpoison";
    case "none":
      return "no VMA";
    case "anonymous":
      return "ok";
    case "file":
  }
  // Fast GUP: a present host PTE is enough, whatever i_size is by now.
  if (page.hasHostPte) return "ok";
  if (m.checks("i-size-test") && !page.isInFile) return "fault";
  switch (page.cache) {
    case "resident":
      page.hasHostPte = true;
      if (fillsLargePage(m)) for (const other of m.pages) other.hasHostPte = true;
      return "ok";
    case "failed":
      return "fault";
    case "absent":
      return readPage(page, gup);
  }
}

/** filemap_map_pmd(): one PMD for the range, if all of it is in the page cache and in front of the end of the file. */
function fillsLargePage(m: Machine): boolean {
  if (!m.case.largePage || (m.fileSize < m.pages.length && m.checks("pmd-in-file"))) return false;
  return m.pages.every((page) => page.cache === "resident" && page.vma === "file");
}

/** Enters a page into the second level; with it the whole range, where the host maps that by one entry. */
export function mapSecondLevel(m: Machine, page: Page, pfn: Ept): void {
  page.ept = pfn;
  if (pfn !== "file" || !fillsLargePage(m)) return;
  if (m.pages.some((other) => !other.hasHostPte)) return;
  for (const other of m.pages) other.ept = "file";
  m.hasLargeEpt = true;
}

/** Zaps what the second level maps of a range: a large entry goes as a whole, whichever part of it is meant. */
function zapSecondLevel(m: Machine, fromPage: number, toPage: number): void {
  const isLarge = m.hasLargeEpt;
  if (isLarge && !m.checks("large-page-zapped")) return;
  for (const page of isLarge ? m.pages : m.pages.slice(fromPage, toPage)) page.ept = "none";
  if (isLarge) m.hasLargeEpt = false;
}

/**
 * A file of the host's own that was truncated and has grown again has a hole there: zeros at once, without I/O
 * (ext4_mpage_readpages(), iomap_readahead()). Behind a file server every page is a READ.
 */
function isHole(page: Page): boolean {
  return page.start === "resident" && page.isZeroed;
}

function readPage(page: Page, gup: Gup): GupResult {
  switch (page.start) {
    case "no-space":
      return "fault";
    case "io-error":
      if (gup === "FOLL_NOWAIT") return "needs I/O";
      page.cache = "failed";
      return "fault";
    // Without FOLL_NOWAIT this does not return (`sleepsForEver`).
    case "unanswered":
      return "needs I/O";
    case "resident":
    case "on-disk":
      if (gup === "FOLL_NOWAIT" && !isHole(page)) return "needs I/O";
      page.cache = "resident";
      page.hasHostPte = true;
      return "ok";
  }
}

/** Does get_user_pages() without FOLL_NOWAIT wait for the page for ever? Nothing is locked meanwhile that others need. */
export function sleepsForEver(page: Page): boolean {
  return (
    page.start === "unanswered" &&
    page.vma === "file" &&
    !page.hasHostPte &&
    page.cache === "absent" &&
    page.isInFile
  );
}

/** Would nothing give this page, now or after I/O? */
export function isLost(page: Page): boolean {
  if (page.vma !== "file" || !page.isInFile) return true;
  return page.cache !== "resident" && (page.start === "no-space" || page.start === "io-error");
}

/** kvm_mmu_notifier_invalidate_range_start: under mmu_lock, count the invalidation and zap the second-level mapping. */
export function invalidateStart(m: Machine, fromPage: number): void {
  if (m.checks("invalidation-counted")) m.mmuInvalidateInProgress++;
  if (m.checks("zap-on-truncate")) zapSecondLevel(m, fromPage, m.pages.length);
}

/** The host's own page tables, between start and end of the invalidation. */
export function zapHostPtes(m: Machine, fromPage: number): void {
  if (!m.checks("fast-gup-cleared")) return;
  for (const page of m.pages.slice(fromPage)) page.hasHostPte = false;
}

/** kvm_mmu_notifier_invalidate_range_end: the sequence number first, then the count. */
export function invalidateEnd(m: Machine): void {
  if (m.checks("seq-bumped")) m.mmuInvalidateSeq++;
  m.mmuInvalidateInProgress = Math.max(0, m.mmuInvalidateInProgress - 1);
}

/** Another VMA over pages: mmap(MAP_FIXED), mprotect, munmap. mmap_lock makes it one step for every other CPU. */
export function replaceVma(m: Machine, fromPage: number, toPage: number, vma: Vma): void {
  for (const page of m.pages.slice(fromPage, toPage)) {
    page.vma = vma;
    page.hasHostPte = false;
  }
  zapSecondLevel(m, fromPage, toPage);
  m.mmuInvalidateSeq++;
}

/** truncate_inode_pages: the page leaves the file. What still maps it maps memory that the file no longer has. */
export function dropPages(m: Machine, fromPage: number): void {
  for (const page of m.pages.slice(fromPage)) {
    page.cache = "absent";
    if (m.checks("content-zeroed")) page.isZeroed = true;
    if (page.ept === "file") page.ept = "freed";
    for (const vcpu of m.vcpus) {
      if (vcpu.pfn === "file" && vcpu.faultingPage === page) vcpu.pfn = "freed";
    }
  }
}

/** A store through another mapping of the file: the page is in the page cache, and holds other bytes than zeros. */
export function writePage(page: Page): void {
  page.cache = "resident";
  page.isZeroed = false;
}

/** A zap that the host initiates: the page stays in the file and in the cache (`interference.ts`). */
export function zapByHost(m: Machine, page: Page): void {
  zapSecondLevel(m, page.index, page.index + 1);
  m.mmuInvalidateSeq++;
}

/** A hole: the pages stay in the file, and a fault on one finds a page of zeros without any I/O. */
export function punchHole(m: Machine, fromPage: number, toPage: number): void {
  for (const page of m.pages.slice(fromPage, toPage)) {
    page.hasHostPte = false;
    page.isZeroed = true;
  }
  zapSecondLevel(m, fromPage, toPage);
  m.mmuInvalidateSeq++;
}
