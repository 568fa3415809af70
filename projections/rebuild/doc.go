// Package rebuild makes a version of a projection out of its history, beside the
// one that readers see, lets readers see it from one moment to the next, goes back,
// and proves that rows are what the history makes of them.
//
// A rebuild (MakePlan, Run) takes the end of every partition once, the ceiling,
// and reads all partitions up to there, without any consumer group. It folds in
// memory, spills to disk beyond a budget, and writes everything in one transaction:
// tables without indexes filled by COPY, then keys and indexes, then the offsets at
// the ceiling. A rebuild that was killed has left nothing behind but a number. From
// the ceiling on the runner follows the topics, as it does for every version.
//
// A swap (Swap) stops both versions at the same mark for a moment and re-points
// the readers' views in one transaction, so that no reader ever sees a step back;
// a rollback (Rollback) is the same with the roles exchanged. Diff says before a
// swap which rows will look different and which event made them so.
//
// Verify folds the history anew and compares it with the rows, key by key: no
// count, no lag and no checksum of a topic says as much.
package rebuild
