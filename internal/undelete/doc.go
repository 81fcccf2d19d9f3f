// Package undelete puts back exactly the documents that somebody deleted by mistake, beside an application that goes on
// writing. It knows nothing of Temporal, chooses no backup and asks no person: the playbooks AccidentalDeletion and
// MergeBack call it, step by step, with one Job.
//
// The steps, in their order: Find (what stood in a backup and is absent now), ReadAudit and Explain (who says that they
// deleted it), Select (a person narrows it), Preview (what would happen), Undelete, Verify; and Undo, which takes back
// exactly what Undelete inserted. Only Undelete and Undo write to the database.
//
// Results are small. Lists of documents lie in the Job's folder, a line of JSON each; each step reads the lists of the
// steps before it and replaces its own whole, so that every step can be run again. The lists name documents of customers:
// they are for the incident's folder, not for a history.
//
// With FindOptions.Without, what is searched for is what a restore lost: documents that the safety dump has, and neither the
// restored backup nor the database. Everything after the search is the same.
//
// Three things keep the living documents safe:
//
//   - A document is only ever inserted, never replaced: one with the same _id or another unique key makes the server refuse it.
//   - What is about to be inserted is on disk, in the undo file, before the server hears of it. A killed run reads there
//     what it may have done.
//   - Undo deletes a document only on the condition that it is still what was inserted.
//
// Not every moment can be covered: the application may make a document anew under the same key between the last look and
// the insert. Where no unique index forbids it, both stand there; Verify names them.
package undelete
