import java.net.InetAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import org.igniterealtime.smack.inttest.Configuration;
import org.igniterealtime.smack.inttest.SmackIntegrationTestFramework;
import org.igniterealtime.smack.inttest.TestResult;
import org.igniterealtime.smack.inttest.XmppConnectionDescriptor;
import org.igniterealtime.smack.inttest.XmppConnectionManager;
import org.jivesoftware.smack.ConnectionConfiguration;
import org.jivesoftware.smack.c2s.ModularXmppClientToServerConnection;
import org.jivesoftware.smack.c2s.ModularXmppClientToServerConnectionConfiguration;
import org.jivesoftware.smack.tcp.XMPPTCPConnection;
import org.jivesoftware.smack.tcp.XMPPTCPConnectionConfiguration;

/**
 * Runs Smack's integration suite against a server on any port, which the suite has no option for, and writes one line
 * for each test: outcome, name, milliseconds and reason, separated by tabs. Everything else is set by -Dsinttest.….
 *
 * <p>Usage: java -cp … Suite.java ADDRESS PORT RESULTS
 */
final class Suite {
    /** A run whose results can be had although it was aborted. */
    private static final class Run extends SmackIntegrationTestFramework {
        Run(Configuration configuration) {
            super(configuration);
        }

        TestRunResult result() {
            return testRunResult;
        }
    }

    public static void main(String[] args) throws Exception {
        connectTo(InetAddress.getByName(args[0]), Integer.parseInt(args[1]));
        LastStarted last = new LastStarted();
        Logger.getLogger(SmackIntegrationTestFramework.class.getName()).addHandler(last);
        Run run = new Run(Configuration.newConfiguration(new String[0]));
        List<String> lines = new ArrayList<>();
        try {
            run.run();
        } catch (Throwable problem) { // what a test throws unchecked ends the run
            problem.printStackTrace();
            lines.add(line("aborted", last.test, 0, problem));
        }
        report(run.result(), lines);
        Files.write(Path.of(args[2]), lines);
        System.exit(0); // Smack leaves threads behind
    }

    /** Gives the kinds of connections a way to the server. */
    private static void connectTo(InetAddress address, int port) throws Exception {
        XmppConnectionManager.addConnectionDescriptor(XmppConnectionDescriptor
                .buildWith(XMPPTCPConnection.class, XMPPTCPConnectionConfiguration.class,
                        XMPPTCPConnectionConfiguration.Builder.class)
                .withNickname("tcp")
                .applyExtraConfiguration(c -> reach(c, address, port))
                .build());
        XmppConnectionManager.addConnectionDescriptor(XmppConnectionDescriptor
                .buildWith(ModularXmppClientToServerConnection.class,
                        ModularXmppClientToServerConnectionConfiguration.class,
                        ModularXmppClientToServerConnectionConfiguration.Builder.class)
                .withNickname("modular")
                .applyExtraConfiguration(c -> reach(c, address, port))
                .build());
    }

    private static void reach(ConnectionConfiguration.Builder<?, ?> connection, InetAddress address, int port) {
        connection.setHostAddress(address);
        connection.setPort(port);
    }

    private static void report(SmackIntegrationTestFramework.TestRunResult result, List<String> lines) {
        if (result != null) {
            result.getSuccessfulTests().forEach(t -> lines.add(line("passed", t, null)));
            result.getFailedTests().forEach(t -> lines.add(line("failed", t, t.failureReason)));
            result.getNotPossibleTests()
                    .forEach(t -> lines.add(line("not possible", t, t.testNotPossibleException)));
            result.getImpossibleTestClasses()
                    .forEach((c, reason) -> lines.add(line("not possible", c.getSimpleName(), 0, reason)));
        }
    }

    private static String line(String outcome, TestResult test, Throwable reason) {
        return line(outcome, test.concreteTest.toString(), test.duration, reason);
    }

    private static String line(String outcome, String test, long millis, Throwable reason) {
        String text = reason == null ? "" : reason.toString().replaceAll("\\s+", " ");
        return String.join("\t", outcome, test, Long.toString(millis), text);
    }

    /** Remembers which test was started last: the framework does not say which one ended its run. */
    private static final class LastStarted extends Handler {
        private static final String SUFFIX = " Start";
        private volatile String test = "(before the first test)";

        @Override
        public void publish(LogRecord record) {
            if (record.getMessage().endsWith(SUFFIX)) {
                test = record.getMessage().substring(0, record.getMessage().length() - SUFFIX.length());
            }
        }

        @Override
        public void flush() {}

        @Override
        public void close() {}
    }
}
