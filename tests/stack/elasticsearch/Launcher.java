import java.lang.reflect.Method;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginBundle;
import org.elasticsearch.plugins.PluginsLoader;

/** Starts one Elasticsearch node in this JVM; the stock server-cli is not published as a jar. */
public class Launcher {
  public static void main(String[] args) throws Exception {
    Path home = Path.of(System.getProperty("es.path.home"));
    Path config = Path.of(System.getProperty("es.path.conf"));
    Settings base = Settings.builder().put("path.home", home).build();
    LogConfigurator.registerErrorListener();
    LogConfigurator.configure(new Environment(base, config), true);
    Environment environment = InternalSettingsPreparer.prepareEnvironment(base, Map.of(), config, () -> "stack");
    PluginsLoader plugins =
        PluginsLoader.createPluginsLoader(modules(environment.modulesDir()), Set.of(), Map.of());
    Node node = new Node(environment, plugins);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node)));
    node.start();
    Thread.currentThread().join();
  }

  /** The modules in that folder, asked by name, as version 9 added an argument to what version 8 has. */
  @SuppressWarnings("unchecked")
  private static Set<PluginBundle> modules(Path folder) throws ReflectiveOperationException {
    for (Method method : PluginsLoader.class.getMethods()) {
      if (method.getName().equals("loadModulesBundles")) {
        Object[] arguments = method.getParameterCount() == 1 ? new Object[] {folder} : new Object[] {folder, false};
        return (Set<PluginBundle>) method.invoke(null, arguments);
      }
    }
    throw new NoSuchMethodException("PluginsLoader.loadModulesBundles");
  }

  private static void close(Node node) {
    try {
      node.close();
    } catch (Exception e) {
      e.printStackTrace();
    }
  }
}
