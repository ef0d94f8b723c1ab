// Package scenario tells stories about clusters of real processes: they are killed, stopped and cut off from one
// another, and what they then say is held against what the package cluster promises. It holds tests only.
//
// Each node is this test binary, started once more on a host of its own (see internal/testnet), and does what the test
// asks it to. With SOAK=1 in the environment, as `make soak` sets it, the stories last longer and the limits of time
// are those that a quiet machine keeps; without it they leave room for one that is busy.
//
// What a cluster has to go through, and where it does. Suite means the behaviours of cluster.TestSuite, which run on
// three kinds of engine; names of packages are those below cluster/internal.
//
//	 1  ten nodes at once, each sees nine, none told twice   TestTenAtOnce, TestTwoAtOneMoment
//	 2  starting and stopping twice, and again                TestOneAlone, TestStreamWhileOthersComeAndGo
//	 3  names that are taken are refused                      TestNamesTwice
//	 4  messages arrive across connections that break         TestConnectionsBreak
//	 5  beacons come, but nothing is taken: the peer drops    TestHungPeer
//	 6  heard, but cannot be talked to: never announced       TestPairCut, member.TestJudge
//	 7  no beacons: kept while other traffic comes, dropped   member.TestJudge, TestStoppedNodeComesBack
//	    when nothing comes
//	 8  other cluster names and keys never meet               TestStrangers, natsbus.TestWrongToken
//	 9  one senior, and the next one when it goes             TestTenAtOnce
//	10  order, with many senders and a carrier that swaps     link.TestRandom, TestConnectionsBreak, cluster.TestModel
//	11  payloads of all sizes arrive as they were             TestConnectionsBreak, link.TestBig
//	12  a remote error for exactly the calls that fail        TestTaskFailsNowAndThen, suite
//	14  keys, and what strangers can do                       natsbus: TestStrangersGetNowhere, TestTrust, TestRotation
//	16  the encoding: golden bytes, garbage, later versions   frame: TestGolden, TestRefused, TestLater; TestVersions
//	 -  kill -9 in the middle of a stream                     TestReceiverIsKilled, TestSenderIsKilled
//	 -  standing still and going on, under a new incarnation  TestStoppedNodeComesBack
//	 -  partitions, in two and in three, and the heal         TestPartition
//	 -  restart within a second under the same name, of all   TestQuickRestart, TestFullRestart
//	 -  clocks ten minutes off                                TestClocks
//	 -  finding each other by multicast                       TestMulticast
//	 -  how long death goes unnoticed, and false alarms       TestDetection, TestNoFalseDeath
//	 -  one node, three, ten                                  TestOneAlone, TestPartition, TestTenAtOnce
package scenario
