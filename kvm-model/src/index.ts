/** Public face of the model and its explorer. Other parts import from here and from nowhere deeper. */

export { caseOf, type Situation, situations } from "./claims/cases.ts";
export { type Claim, type ClaimVerdict, claims, decideClaim } from "./claims/claims.ts";
export { caughtBy, decideMutation } from "./claims/mutations.ts";
export { type CycleQuery, fairComponents, findFairLasso, type Lasso } from "./explore/cycles.ts";
export { mermaidDiagram, textDiagram } from "./explore/diagram.ts";
export {
  defaultExploreOptions,
  type Exhaustiveness,
  type ExploreOptions,
  explore,
  Graph,
} from "./explore/explorer.ts";
export { type Followed, type FollowOptions, follow, type Late, type Observed } from "./explore/follow.ts";
export {
  type Action,
  type EventSink,
  type Model,
  type ModelEvent,
  type TableModel,
  tableModel,
} from "./explore/model.ts";
export {
  checkDeterminism,
  checkLocalActions,
  formatToken,
  parseToken,
  ReplayError,
  randomScheduler,
  replay,
  replayScheduler,
  runSchedule,
  type Scheduler,
  type Step,
  type Token,
} from "./explore/path.ts";
export { type Finding, findDeadlock, findLivelock, findState } from "./explore/search.ts";
export * from "./model/case.ts";
export { collectFacts, type Fact, type Facts, factNames, factsOf } from "./model/facts.ts";
export { type GuestModel, guestModel } from "./model/model.ts";
export { type End, HOST_ACTOR, outcomesOf } from "./model/outcomes.ts";
export {
  type ExitReason,
  type FaultTracepoint,
  isMapping,
  lateFaults,
  tracepointsOf,
  tracepointText,
} from "./model/tracepoints.ts";
export { benchExplore, benchProtocol, type ExploreBench, largestCase } from "./protocol/bench.ts";
export { type SmallModel, type SmallProtocol, smallProtocol } from "./protocol/small.ts";
export { runSpin, type SpinPlace, type SpinResult, type SpinRun, spinAvailable } from "./protocol/spin.ts";
export { type Field, Layout } from "./state/layout.ts";
