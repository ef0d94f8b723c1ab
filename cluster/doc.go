// Package cluster joins programs into a cluster: they see each other come, fail and go, share tables, tell each other
// things in order, and run tasks on one another. It has no leader, no quorum and no distributed lock: every pair of
// nodes decides and synchronises for itself, and every row of a table has one writer.
//
// A [Node] works alone from [Start] on, without opening a port. [Node.Join] makes it a member of its cluster while
// it runs, and [Node.Leave] takes it out again: tables, topics and tasks that exist become shared, with what is in
// them, and are the node's own again afterwards.
//
//   - [Table]: a map that all nodes have a full copy of. A node changes its own rows; they vanish with it.
//   - [Topic]: messages to all nodes, with notice of what was missed.
//   - [Task]: functions that other nodes call, with deadline and errors.
//   - [Channel]: records to one node, in order, acknowledged after they were applied, handed back when that node dies.
//   - [Node.Home]: which node is responsible for a key.
//   - [Node.Events]: what happens to the members, in order.
//
// # Members
//
// Every node sends a beacon twice a second. One that falls silent is suspected and then declared dead; one whose
// connection ends, too, is declared dead sooner. Declarations name an incarnation, a number that grows with every start.
// A node that finds out that others declared it dead, since it was suspended or cut off, takes a new incarnation,
// tells with an event ([Fenced]), and joins again by itself. In a partition each side goes on with the rows it has, and
// the sides meet again when it heals.
//
// # Guarantees
//
// What one node sends another on channels, and the changes of its tables, arrive in the order sent: a row is there
// before anything that was sent after it was written. A full window holds senders back, up to the deadline of their context;
// nothing is dropped, and no queue grows without bound.
package cluster
