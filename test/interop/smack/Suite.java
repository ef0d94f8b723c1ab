import java.net.InetAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import org.igniterealtime.smack.inttest.Configuration;
import org.igniterealtime.smack.inttest.SmackIntegrationTestFramework;
import org.igniterealtime.smack.inttest.TestResult;
import org.igniterealtime.smack.inttest.XmppConnectionDescriptor;
import org.igniterealtime.smack.inttest.XmppConnectionManager;
import org.jivesoftware.smack.tcp.XMPPTCPConnection;
import org.jivesoftware.smack.tcp.XMPPTCPConnectionConfiguration;

/**
 * Runs Smack's integration suite against a server on any port, which the suite has no option for, and writes a line for
 * each test: outcome, name, milliseconds and reason, separated by tabs. Everything else is set with -Dsinttest.…. With
 * several ports, those of the nodes of a cluster, its connections take them in turn, and each one comes back to its own.
 *
 * <p>Usage: java -cp … Suite.java ADDRESS PORT,… RESULTS
 */
final class Suite {
    public static void main(String[] args) throws Exception {
        connectTo(InetAddress.getByName(args[0]), Stream.of(args[1].split(",")).mapToInt(Integer::parseInt).toArray());
        Run run = new Run(Configuration.newConfiguration(new String[0]));
        boolean done = false;
        try {
            run.run();
            done = true;
        } catch (Throwable problem) { // an unchecked one of a test ends the run
            problem.printStackTrace();
        }
        Files.write(Path.of(args[2]), run.lines());
        System.exit(done ? 0 : 1); // Smack leaves threads behind
    }

    /**
     * Gives "tcp" a way to the server, and drops the other kinds of connections: the handshakes of the "modular" ones
     * stall now and then, whatever the server, and the server does not speak WebSocket.
     */
    private static void connectTo(InetAddress address, int[] ports) throws Exception {
        for (String kind : List.of(
                "tcp", "modular", "modular-nocompress", "modular-websocket-okhttp", "modular-websocket-java11")) {
            XmppConnectionManager.removeConnectionDescriptor(kind);
        }
        AtomicInteger connections = new AtomicInteger();
        XmppConnectionManager.addConnectionDescriptor(XmppConnectionDescriptor.buildWith(XMPPTCPConnection.class,
                        XMPPTCPConnectionConfiguration.class, XMPPTCPConnectionConfiguration.Builder.class)
                .withNickname("tcp")
                .applyExtraConfiguration(c -> c.setHostAddress(address)
                        .setPort(ports[connections.getAndIncrement() % ports.length]))
                .build());
    }

    /** A run that tells its results although a test ended it. */
    private static final class Run extends SmackIntegrationTestFramework {
        Run(Configuration configuration) {
            super(configuration);
        }

        List<String> lines() {
            List<String> lines = new ArrayList<>();
            if (testRunResult == null) {
                return lines;
            }
            testRunResult.getSuccessfulTests().forEach(t -> lines.add(line("passed", t, null)));
            testRunResult.getFailedTests().forEach(t -> lines.add(line("failed", t, t.failureReason)));
            testRunResult.getNotPossibleTests()
                    .forEach(t -> lines.add(line("not possible", t, t.testNotPossibleException)));
            testRunResult.getImpossibleTestClasses()
                    .forEach((c, reason) -> lines.add(line("not possible", c.getSimpleName(), 0, reason)));
            return lines;
        }

        private static String line(String outcome, TestResult test, Throwable reason) {
            ConcreteTest t = test.concreteTest;
            String name = t.getMethod().getDeclaringClass().getSimpleName() + '.' + t.getMethod().getName();
            return line(outcome, name, test.duration, reason);
        }

        private static String line(String outcome, String name, long millis, Throwable reason) {
            String text = reason == null ? "" : reason.toString().replaceAll("\\s+", " ");
            return String.join("\t", outcome, name, Long.toString(millis), text);
        }
    }
}
