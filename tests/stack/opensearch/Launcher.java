import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import org.opensearch.common.logging.LogConfigurator;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;

/**
 * Starts one OpenSearch 2 node in this JVM. The stock main class installs a security manager, which needs the modules'
 * policies, and those are not published with the jars.
 */
public class Launcher {
  public static void main(String[] args) throws Exception {
    Path home = Path.of(System.getProperty("opensearch.path.home"));
    Path config = Path.of(System.getProperty("opensearch.path.conf"));
    Settings base = Settings.builder().put("path.home", home).build();
    Environment environment = InternalSettingsPreparer.prepareEnvironment(base, Map.of(), config, () -> "stack");
    LogConfigurator.registerErrorListener();
    LogConfigurator.setNodeName("stack");
    LogConfigurator.configure(environment);
    Node node = new Node(environment);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node)));
    node.start();
    Thread.currentThread().join();
  }

  private static void close(Node node) {
    try {
      node.close();
    } catch (IOException e) {
      e.printStackTrace();
    }
  }
}
